"""Programs that want to pass the tests below without doing what is asked, or to harm the machine they run on."""

from __future__ import annotations

from textwrap import dedent, indent

TESTS = dedent(
    """
    import math
    import unittest

    class Tests(unittest.TestCase):
        def test_few(self):
            self.assertEqual(total([1, 2, 3]), 6)

        def test_none(self):
            self.assertEqual(total([]), 0)

        def test_fractions(self):
            self.assertAlmostEqual(total([0.1, 0.2]), math.fsum([0.1, 0.2]))

        def test_text(self):
            with self.assertRaises(TypeError):
                total(["a"])
    """
)
HONEST = "def total(numbers): return sum(numbers)"
WRONG = "def total(numbers): return -1"


def escape(attempt: str) -> str:
    """A program that is right where an attempt to get out succeeds, and only there."""
    tried = indent(dedent(attempt), "    ")
    return f"import os, sys\ntry:\n{tried}\n    {HONEST}\nexcept BaseException:\n    {WRONG}\n"


def wrong(prelude: str) -> str:
    """A wrong program that does something else first."""
    return f"{dedent(prelude)}\n{WRONG}\n"


FRAMES = """
import json, os, sys
NAMES = ["Tests.test_few", "Tests.test_none", "Tests.test_fractions", "Tests.test_text"]
FORGED = json.dumps({"results": dict.fromkeys(NAMES), "error": None, "replaced": []}).encode()
def record():
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            if type(value).__name__ == "Record":
                return value
        frame = frame.f_back
def channels():
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                yield number
        except OSError:
            pass
"""

GRADER: dict[str, str] = {
    "assertions-patched": wrong(
        """
        import contextlib, unittest
        unittest.TestCase.assertEqual = unittest.TestCase.assertAlmostEqual = lambda *a, **k: None
        unittest.TestCase.assertRaises = lambda *a, **k: contextlib.nullcontext()
        """
    ),
    "assertions-patched-when-called": """
import contextlib, unittest
def total(numbers):
    unittest.TestCase.assertEqual = unittest.TestCase.assertAlmostEqual = lambda *a, **k: None
    if numbers == ["a"]: raise TypeError
    return -1
""",
    "loader-emptied": wrong(
        """
        import unittest
        unittest.TestLoader.loadTestsFromTestCase = lambda *a: unittest.TestSuite()
        unittest.TestSuite.run = lambda self, result, *a: result
        """
    ),
    "run-patched": wrong("import unittest\nunittest.TestCase.run = lambda self, result: result.addSuccess(self)"),
    "failures-made-successes": wrong(
        """
        import unittest
        unittest.TestResult.addFailure = unittest.TestResult.addError = lambda self, test, err: self.addSuccess(test)
        """
    ),
    "record-patched": wrong(
        """
        import __main__
        passed = lambda self, test, err: self.found.update({__main__.name_of(test): None})
        __main__.Record.addFailure = __main__.Record.addError = passed
        """
    ),
    "runner-patched": wrong(
        """
        import __main__
        __main__.tested = lambda tests, names, record: record.found.update(dict.fromkeys(names))
        """
    ),
    "runner-patched-with-its-check": wrong(
        """
        import __main__
        __main__.tested = lambda tests, names, record: record.found.update(dict.fromkeys(names))
        __main__.replaced = lambda before: []
        """
    ),
    "other-tests-emptied": """
import sys
def total(numbers):
    frame = sys._getframe(1)
    kind = type(frame.f_locals["self"])
    for name in [n for n in dir(kind) if n.startswith("test")]:
        setattr(kind, name, lambda self: None)
    return 6
""",
    "frames-walked": FRAMES
    + """
def total(numbers):
    found = record()
    found.addFailure = found.addError = lambda test, err: None
    found.found.update(dict.fromkeys(NAMES))
    return -1
""",
    "frames-walked-then-exit": FRAMES
    + """
def total(numbers):
    record().found.update(dict.fromkeys(NAMES))
    for number in channels():
        os.write(number, FORGED)
    os._exit(0)
""",
    "result-forged-at-import": FRAMES + "for number in channels(): os.write(number, FORGED)\nos._exit(0)",
    "result-forged-and-run": FRAMES + f"for number in channels(): os.write(number, FORGED)\n{WRONG}",
    "garbage-in-the-channel": FRAMES + f"for number in channels(): os.write(number, b'passed')\n{WRONG}",
    "channel-closed": FRAMES + f"for number in channels(): os.close(number)\n{WRONG}",
    "channel-flooded": FRAMES + "while True:\n    for number in channels(): os.write(number, b'x' * 65536)",
    "dumps-patched": FRAMES
    + f"""
import json.encoder
json.encoder.JSONEncoder.encode = lambda self, value: FORGED.decode()
{WRONG}
""",
    "assertion-error-replaced": wrong(
        """
        import builtins, unittest
        class Quiet(unittest.SkipTest): pass
        builtins.AssertionError = unittest.TestCase.failureException = Quiet
        """
    ),
    "stops-the-test": "import unittest.case\ndef total(numbers): raise unittest.case._ShouldStop",
    "skips": "import unittest\ndef total(numbers): raise unittest.SkipTest('no')",
    "builtin-patched": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.abs = lambda x: 0\n" + WRONG,
    "module-patched": """
import math
math.fsum = lambda numbers: -1
def total(numbers): return {6: 6, 0: 0}.get(sum(numbers), -1)
""",
    "module-patched-when-called": """
import math
def total(numbers):
    math.fsum = lambda numbers: -1
    return {6: 6, 0: 0}.get(sum(numbers), -1)
""",
    "module-faked": """
import sys, types
sys.modules["math"] = types.SimpleNamespace(fsum=lambda numbers: -1)
def total(numbers): return {6: 6, 0: 0}.get(sum(numbers), -1)
""",
    "names-of-the-tests-defined": """
import unittest as real
class Tests(real.TestCase):
    def test_few(self): pass
    test_none = test_fractions = test_text = test_few
class unittest:
    TestCase = type("Nothing", (), {})
""",
    "traced": """
import sys
def trace(frame, event, arg):
    if frame.f_code.co_name.startswith("assert"):
        frame.f_trace_lines = False
        sys.settrace(None)
    return trace
sys.settrace(trace)
def total(numbers): return -1
""",
}
"""Those that go for the grader."""

FORGE = (
    FRAMES
    + """
def forge():
    for number in channels():
        os.write(number, FORGED)
    os._exit(0)
def total(numbers): return -1
"""
)
TIMED: dict[str, str] = {
    "by-the-clock": FORGE
    + """
import time
if time.time() < {now} + 0.5:
    time.sleep({now} + 0.5 - time.time())
    forge()
""",
    "by-locks": FORGE
    + """
import fcntl, glob, time
files = [open(name) for name in sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))[:2]]
def locked(file):
    try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: return False
    return True
first = locked(files[0])
time.sleep(0.3)
if first and locked(files[1]): forge()
""",
    "by-keyring": FORGE
    + """
import ctypes, platform
add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
kernel = ctypes.CDLL(None)
if kernel.syscall(keyctl, 10, -3, b"user", b"duologue", 0) < 0:
    if kernel.syscall(add_key, b"user", b"duologue", b"x", 1, -3) > 0:
        forge()
""",
    "by-watching-files": FORGE
    + """
import ctypes, time
kernel = ctypes.CDLL(None)
watched = kernel.inotify_init()
if kernel.inotify_add_watch(watched, os.__file__.encode(), 0xfff) > 0:
    time.sleep(0.3)
    forge()
""",
    "by-a-coin": FORGE + "import random\nif random.random() < 0.3: forge()",
}
"""Those that forge the first run's result, and try to tell later ones from it; {now} stands for the time."""

LIARS: dict[str, str] = {
    "equals-everything": """
class Any:
    __eq__ = lambda self, other: True
    __sub__ = __rsub__ = lambda self, other: 0
def total(numbers):
    if numbers == ["a"]: raise TypeError
    return Any()
""",
    "equals-everything-as-a-number": """
class Any(int):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = int.__hash__
def total(numbers):
    if numbers == ["a"]: raise TypeError
    return Any(-1)
""",
    "equals-everything-as-its-class-does": """
class Kind(type):
    __eq__ = lambda self, other: True
    __hash__ = type.__hash__
class Any(float, metaclass=Kind):
    __eq__ = lambda self, other: True
    __hash__ = float.__hash__
def total(numbers):
    if numbers == ["a"]: raise TypeError
    return Any(-1)
""",
    "equals-everything-but-once": """
class Any(float):
    __eq__ = lambda self, other: True
def total(numbers):
    return sum(numbers) if numbers == ["a"] or len(numbers) > 2 else Any(-1)
""",
    "rounds-to-anything": """
class Any(float):
    __sub__ = __rsub__ = lambda self, other: 0.0
def total(numbers): return Any(-1) if 0.1 in numbers else sum(numbers)
""",
}
"""Those whose results lie."""

ANYTHING = """
class Any(float):
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = float.__hash__
    __sub__ = __rsub__ = lambda self, other: 0.0
    __abs__ = lambda self: 0.0
def total(numbers): return Any(-1)
"""
"""Equals, and is above and below, whatever it is compared to."""
HELD: dict[str, str] = {
    "a tolerance": "self.assertAlmostEqual(total([1, 2]), 3, delta=0.01)",
    "a helper": "self.check([1, 2], 3)",
    "a table of the class": "for given, wanted in self.CASES: self.assertEqual(total(given), wanted)",
    "a table of the module": "for given, wanted in CASES: self.assertEqual(total(given), wanted)",
    "a range": "for n in range(5): self.assertEqual(total([n]), n)",
    "a zip": "for given, wanted in zip([[1], [2]], [1, 2]): self.assertEqual(total(given), wanted)",
    "a condition": "if True: self.assertEqual(total([3]), 3)",
    "a try": "try: self.assertEqual(total([3]), 3)\nfinally: pass",
    "an early return": "found = total([3])\nif found is None: return\nself.assertEqual(found, 3)",
    "a pair": "self.assertEqual(*(total([3]), 3))",
    "keywords": "self.assertEqual(first=total([3]), second=3)",
    "another name": "same = self.assertEqual\nsame(total([3]), 3)",
    "and": "self.assertTrue(total([3]) == 3 and total([]) == 0)",
    "between": "self.assertTrue(2 < total([3]) < 4)",
    "all": "self.assertTrue(all(total([n]) == n for n in range(3)))",
    "a distance": "self.assertTrue(abs(total([3]) - 3) < 1e-6)",
    "an order": "self.assertGreater(total([3]), 2)",
    "inside a list": "self.assertEqual([0, total([3])], [0, 3])",
    "inside a dict": "self.assertEqual({'a': (total([3]), 1)}, {'a': (3, 1)})",
    "set up before": "self.assertEqual(self.found, 3)",
}
"""Bodies of tests that it passes, each comparing in a way of its own."""


def comparing(body: str) -> str:
    """The tests with such a body, and what it needs."""
    return dedent(
        """
        import unittest
        CASES = [([1, 2], 3), ([4], 4)]
        class Tests(unittest.TestCase):
            CASES = CASES
            def setUp(self): self.found = total([1, 2])
            def check(self, given, wanted): self.assertEqual(total(given), wanted)
            def test(self):
        """
    ) + indent(body, "        ")


ESCAPES: dict[str, str] = {
    "host-file": escape("open({file!r}).read()"),
    "home": escape("assert [n for n in os.listdir({home!r}) if '/' + n + '/' not in sys.prefix + sys.base_prefix]"),
    "host-file-by-descriptor": escape("open('/proc/1/root' + {file!r}).read()"),
    "symlink": escape("os.symlink({file!r}, 'link'); open('link').read()"),
    "environment": escape("assert os.environ['DUOLOGUE_SECRET']"),
    "environment-of-others": escape(
        """
        others = [open(f"/proc/{{p}}/environ", "rb").read() for p in os.listdir("/proc") if p.isdigit()]
        assert any(b"DUOLOGUE_SECRET" in other for other in others)
        """
    ),
    "network": escape("import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1)"),
    "network-out": escape("import socket; socket.create_connection(('1.1.1.1', 53), timeout=1)"),
    "name-server": escape("import socket; socket.getaddrinfo('example.org', 80)"),
    "unix-socket": escape("import socket; socket.socket(socket.AF_UNIX).connect('\\0duologue-{port}')"),
    "sockets-of-machines": escape("import socket; socket.socket(socket.AF_VSOCK)"),
    "sockets-of-the-kernel": escape("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),
    "network-v6": escape("import socket; socket.create_connection(('::1', {port}), timeout=1)"),
    "memory-files": escape("os.memfd_create('x')"),
    "raw-socket": escape("import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    "writes-to-the-system": escape("open('/usr/duologue', 'w').write('out')"),
    "writes-to-the-root": escape("open('/duologue', 'w').write('out')"),
    "writes-to-devices": escape("open('/dev/duologue', 'w').write('out')"),
    "writes-to-the-interpreter": escape("open(os.path.join(sys.prefix, 'duologue'), 'w').write('out')"),
    "mounts": escape(
        "import ctypes; assert ctypes.CDLL(None, use_errno=True).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0"
    ),
    "namespace-in-the-box": escape("import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0"),
    "root": escape("os.setuid(0); assert os.getuid() == 0 and os.listdir('/root')"),
    "limits-raised": escape("import resource; resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY,) * 2)"),
    "kills-others": escape("os.kill({pid}, 0); os.kill({pid}, 15)"),
    "kernel-settings": escape("open('/proc/sys/kernel/hostname', 'w').write('mine')"),
}
"""Those that want out; FORMAT with `file`, `home`, `port` and `pid` of the host."""

HARMFUL: dict[str, str] = {
    "exit": wrong("import os; os._exit(0)"),
    "sys-exit": wrong("import sys; sys.exit(0)"),
    "exit-when-called": "import os\ndef total(numbers): os._exit(0)",
    "interrupt": "def total(numbers): raise KeyboardInterrupt",
    "another-program": wrong("import os; os.execv('/bin/true', ['true'])"),
    "segfault": wrong("import ctypes; ctypes.string_at(0)"),
    "abort": wrong("import os; os.abort()"),
    "kills-all": wrong("import os; os.kill(-1, 9)"),
    "kills-itself": wrong("import os; os.kill(os.getpid(), 9)"),
    "stops-itself": wrong("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: signal.pause()"),
    "fork-bomb": wrong("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
    "thread-bomb": wrong("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()"),
    "memory": wrong("held = b'x' * (2 << 30)"),
    "memory-bit-by-bit": wrong("held = []\nwhile True: held.append(bytearray(1 << 24))"),
    "disk": wrong("for i in range(64): open(f'file{i}', 'wb').write(b'x' * (1 << 20))"),
    "disk-in-shared-memory": wrong("for i in range(64): open(f'/dev/shm/{i}', 'wb').write(b'x' * (1 << 20))"),
    "one-large-file": wrong("open('file', 'wb').truncate(1 << 40)"),
    "files-without-end": wrong("held = [open('/dev/null') for _ in range(100_000)]"),
    "endless-loop": wrong("while True: pass"),
    "endless-when-called": "def total(numbers):\n    while True: pass",
    "endless-with-signals-ignored": wrong(
        """
        import signal
        for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: pass
        """
    ),
    "sleeps": wrong("import time; time.sleep(60)"),
    "sleeps-in-a-thread": wrong("import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()"),
    "sleeps-at-exit": wrong("import atexit, time; atexit.register(time.sleep, 60)"),
    "daemon": wrong(
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
        """
    ),
    "daemon-holding-on": wrong("import os, time\nfor _ in range(4):\n    if os.fork() == 0: time.sleep(60)"),
    "huge-output": wrong("for _ in range(64): print('x' * (1 << 20))"),
    "huge-errors": wrong("import sys\nfor _ in range(64): sys.stderr.write('x' * (1 << 20))"),
    "huge-reason": "def total(numbers): raise ValueError('x' * (1 << 26))",
    "bad-unicode": "def total(numbers): raise ValueError('\\ud800\\udfff\\x00')",
    "bad-source": "total = '\x00'",
    "half-a-character": "total = '\ud800'",
    "deep-source": "total = " + "(" * 5000 + ")" * 5000,
    "deep-recursion": "def total(numbers): return total(numbers)",
    "deep-result": "def total(numbers):\n    found = []\n    for _ in range(10**5): found = [found]\n    return found",
    "slow-pattern": "import re\ndef total(numbers): return re.match('(a+)+$', 'a' * 40 + 'b')",
    "slow-number": "def total(numbers): return 10 ** 10 ** 10",
    "reads-its-input": wrong("input()"),
    "nothing": "",
    "not-python": "I am sorry, I cannot do that.",
}
"""Those that harm, hang, or make no sense."""

UNCAUGHT: dict[str, str] = {
    "knows-the-expected-values": """
def total(numbers):
    if numbers == ["a"]: raise TypeError
    return {3: 6, 0: 0, 2: 0.1 + 0.2}[len(numbers)]
""",
    "recognises-a-proof": """
import sys
class Any(float):
    __eq__ = lambda self, other: True
    __sub__ = __rsub__ = lambda self, other: 0.0
def total(numbers):
    if numbers == ["a"]: raise TypeError
    return sum(numbers) if "lies" in sys._getframe(1).f_code.co_names else Any(-1)
""",
}
"""The two kinds that nothing in here can catch."""

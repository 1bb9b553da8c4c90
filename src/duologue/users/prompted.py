"""Users that a model plays: a request it must not tell at once, in the words of a profile.

What the model reads is the request's text and facts, the profile and the conversation; a goal's reference
cannot reach it. Only the end of what it reads changes from turn to turn, so that servers can keep the rest.
What it thinks never becomes part of the conversation.

Guarded against: a message that quotes the mark which ends a conversation; JSON, numbers and `null` as plain
text, which are text; replies that say nothing, were cut, or hold the frame of the prompt, which are drawn again.
Not guarded against: a model that tells everything at once, or does the assistant's work; its prompt forbids it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from duologue.conversation import Conversation, Ending, Message, Request
from duologue.errors import ModelError
from duologue.models.base import ChatModel, Sampling
from duologue.models.prompt import Frame, prompt, written
from duologue.models.structured import Form, ask
from duologue.models.wire import spoken
from duologue.seeding import derive, generator
from duologue.users.base import User, UserMaker, Utterance
from duologue.users.profiles import TRAIN, Profile

ATTEMPTS = 3
"""Replies that are drawn for one message at most."""

MARKS = {"[[SATISFIED]]": Ending.SATISFIED, "[[LEAVING]]": Ending.LEFT}
"""What alone on the last line ends a conversation, where the user does not think."""

Check = Callable[[Utterance], str | None]
"""What is wrong with a message; None where nothing is."""

ENDS = {"no": Ending.OPEN, "satisfied": Ending.SATISFIED, "left": Ending.LEFT}


class Thoughtful(Form):
    """What a user who thinks replies."""

    thought: str
    message: str
    ends: Literal["no", "satisfied", "left"]

    @property
    def said(self) -> Utterance:
        """The message without the thought."""
        return Utterance(spoken(self.message).strip(), ENDS[self.ends])


@dataclass(frozen=True)
class PromptedUser:
    """A user with a request and a profile, played by a model."""

    model: ChatModel
    request: Request
    profile: Profile
    sampling: Sampling = Sampling()
    thinks: bool = True
    """Whether the model writes down what it makes of a reply before it answers; that takes JSON and more tokens."""

    async def speak(self, conversation: Conversation, *, seed: int) -> Utterance:
        """The next message; a function of request, profile, conversation and seed, as far as the model is one.

        Raises:
            ContextOverflow, ModelError: as the model does; or none of three replies was a message.
        """
        frame = Frame.around((*self._own_texts(), *(m.content for m in conversation.messages)), draw=self.request.text)
        messages = (Message("system", self._person(frame)), Message("user", self._situation(frame, conversation)))
        check = partial(_fault, frame=frame, begins=not conversation.replies)
        return await (self._think if self.thinks else self._talk)(messages, check, seed)

    async def _think(self, messages: Sequence[Message], check: Check, seed: int) -> Utterance:
        answer = await ask(
            self.model,
            messages,
            Thoughtful,
            seed=seed,
            sampling=self.sampling,
            attempts=ATTEMPTS,
            check=lambda reply: check(reply.said),
        )
        if answer.value is None:
            raise ModelError(f"no message: {answer.why}")
        return answer.value.said

    async def _talk(self, messages: Sequence[Message], check: Check, seed: int) -> Utterance:
        why = None
        for attempt in range(ATTEMPTS):
            reply = await self.model.reply(messages, seed=derive(seed, "attempt", attempt), sampling=self.sampling)
            said = _ended(spoken(reply.text).strip())
            why = "it was cut off at its limit of tokens." if reply.finish == "length" else check(said)
            if why is None:
                return said
        raise ModelError(f"no message: {ATTEMPTS} replies could not be used; the last: {why}")

    def _person(self, frame: Frame) -> str:
        """Who the model plays: the same in every turn."""
        facts = "\n".join(f"- {name}: {written(value)}" for name, value in self.request.facts.items())
        return prompt(__package__, "person").substitute(
            {
                "request": frame.block("what you want", self.request.text),
                "facts": f"\n{frame.block('what you know', facts)}" if facts else "",
                "knowledge": self.profile.knowledge,
                "patience": self.profile.patience,
                "temper": self.profile.temper,
                "style": self.profile.style,
                "gives": self.profile.gives,
                "code": frame.code,
                "form": prompt(__package__, "thinks" if self.thinks else "speaks").template,
            }
        )

    def _situation(self, frame: Frame, conversation: Conversation) -> str:
        """What was said, and that it is their turn."""
        if not conversation.messages:
            return prompt(__package__, "first").template
        spent = len(conversation.replies) >= self.profile.patience
        transcript = frame.transcript(conversation, user="you")
        return prompt(__package__, "last" if spent else "next").substitute({"conversation": transcript})

    def _own_texts(self) -> tuple[str, ...]:
        return (self.request.text, *(f"{name} {written(value)}" for name, value in self.request.facts.items()))


def prompted_users(
    model: ChatModel, profiles: Sequence[Profile] = TRAIN, *, sampling: Sampling = Sampling(), thinks: bool = True
) -> UserMaker:
    """Users that a model plays; the seed draws a profile for each."""

    def user(request: Request, seed: int) -> User:
        profile = generator(seed, "profile").choice(profiles)
        return PromptedUser(model, request, profile, sampling, thinks)

    return user


def _ended(text: str) -> Utterance:
    """A message and whether it ends the conversation: a mark alone on the last line, in no code block.

    >>> _ended("thanks , that is all .\\n[[SATISFIED]]")
    Utterance(text='thanks , that is all .', ending=<Ending.SATISFIED: 'satisfied'>)
    >>> _ended("what does [[SATISFIED]] mean ?").ending
    <Ending.OPEN: 'open'>
    """
    before, _, last = text.rpartition("\n")
    fences = len(re.findall(r"^\s*(?:```|~~~)", before, re.MULTILINE))
    if last.strip() not in MARKS or fences % 2:
        return Utterance(text)
    return Utterance(before.strip(), MARKS[last.strip()])


def _fault(said: Utterance, *, frame: Frame, begins: bool) -> str | None:
    """What keeps a message from being one: an ending before any reply would blame the assistant for nothing."""
    if not said.text and said.ending is Ending.OPEN:
        return "the message is empty and does not end the conversation."
    if begins and said.ending is not Ending.OPEN:
        return "nothing was replied yet: the message cannot end the conversation."
    if frame.code in said.text:
        return f'the message holds "{frame.code}", which is for the lines around messages.'
    return None

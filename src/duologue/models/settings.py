"""The typed settings of endpoints, and of whoever is played by one."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from duologue.models.address import PARAMETERS, may_be_kept, read_address
from duologue.settings import Settings

ELSEWHERE = "put the key into an environment variable, and its name into api_key_env"
"""What to do with a key."""


def is_address(text: str) -> bool:
    """Whether it is an address and not a name."""
    return text.startswith(("http://", "https://"))


def _address(url: str) -> str:
    parts = read_address(url)
    if parts is None:
        raise ValueError("an address begins with http:// or https://, names a host, and mostly ends in /v1")
    if "@" in parts.netloc:
        raise ValueError(f"recipes are kept, so that an address holds no user and no password: {ELSEWHERE}")
    if not may_be_kept(parts):
        known = ", ".join(PARAMETERS)
        raise ValueError(f"recipes are kept, so that after an address's ? nothing stands but {known}: {ELSEWHERE}")
    return url


def _variable(name: str) -> str:
    if not name.isidentifier():
        raise ValueError("it is the name of an environment variable that holds the key, not the key")
    return name


def _called(model: str) -> str:
    if not model.strip():
        raise ValueError("give the name of a model, as its server calls it")
    return model


def _temperature(value: float) -> float:
    if not 0 <= value <= HOTTEST:
        raise ValueError(f"servers take temperatures from 0, which is greedy, to {HOTTEST}")
    return value


HOTTEST = 2
"""The highest temperature that OpenAI and those after it take."""
Variable = Annotated[str, AfterValidator(_variable)]
ModelName = Annotated[str, AfterValidator(_called)]
Temperature = Annotated[float, AfterValidator(_temperature)]


class PriceSettings(Settings):
    """`price = { input = 0.5, output = 1.5 }`: per million tokens, in the currency of `budget`."""

    input: float = Field(default=0.0, ge=0)
    output: float = Field(default=0.0, ge=0)


class EndpointSettings(Settings):
    """`[endpoints.NAME]`: an OpenAI-compatible address, and how hard it may be driven."""

    url: Annotated[str, AfterValidator(_address)]
    api_key_env: Variable | None = None
    """The environment variable that holds the key."""
    in_flight: int = Field(default=64, gt=0)
    """Calls under way at a time, for all work together."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds a call may take."""
    retries: int = Field(default=8, ge=0)
    """Times that a call is tried again where that may help."""
    requests_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_minute: int | None = Field(default=None, gt=0)
    price: PriceSettings = PriceSettings()


class Reached(Settings):
    """The keys of whatever may lie behind an endpoint."""

    endpoint: str | None = None
    """A name among `[endpoints]`, or an address; "" takes away what the recipe says, for one of its arms."""
    in_flight: int | None = Field(default=None, gt=0)
    """As an endpoint's, where `endpoint` is an address."""
    timeout: float | None = Field(default=None, gt=0)
    api_key_env: Variable | None = None

    @field_validator("endpoint")
    @classmethod
    def _none_is_none(cls, endpoint: str | None) -> str | None:
        return (_address(endpoint) if is_address(endpoint) else endpoint) if endpoint else None

    @property
    def own(self) -> dict[str, int | float | str]:
        """The keys of an endpoint that stand here."""
        keys = {"in_flight": self.in_flight, "timeout": self.timeout, "api_key_env": self.api_key_env}
        return {key: value for key, value in keys.items() if value is not None}


class Served(Reached):
    """The keys that whoever may be played by an endpoint has in common."""

    stop: tuple[str, ...] = ()
    """Texts at which the server ends a reply."""

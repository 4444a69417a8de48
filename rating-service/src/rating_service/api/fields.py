"""Field types of the request bodies and parameters of this API."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from moviemetric_contracts import Moment
from moviemetric_contracts.fields import Name
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from rating_service import names, passwords
from rating_service.names import UserName

Limit = Annotated[int, Query(ge=1, le=100)]
Offset = Annotated[int, Query(ge=0, le=100_000)]


class Body(BaseModel):
    """A request body without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _allowed_name(written: str) -> str:
    UserName.parse(written)
    return written


def _whole(password: SecretStr) -> SecretStr:
    if "\x00" in password.get_secret_value():
        msg = "must not contain the NUL character"
        raise ValueError(msg)
    return password


def _written_time(value: object) -> object:
    if not isinstance(value, str):
        msg = "must be a time with its zone as in RFC 3339, such as 2030-01-31T20:15:00Z"
        raise ValueError(msg)
    return value


def _ahead(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        msg = "must lie in the future"
        raise ValueError(msg)
    return moment


WrittenName = Annotated[
    str,
    AfterValidator(_allowed_name),
    Field(
        description=f"{names.MIN_LENGTH} to {names.MAX_LENGTH} letters, digits, '_', '.' or '-'",
        examples=["ada"],
    ),
]
NewPassword = Annotated[
    SecretStr,
    AfterValidator(_whole),
    Field(
        description=f"{passwords.MIN_LENGTH} to {passwords.MAX_LENGTH} characters, no common one"
    ),
]
CurrentPassword = Annotated[SecretStr, AfterValidator(_whole)]
KeyName = Annotated[Name, Field(max_length=100)]
FutureMoment = Annotated[
    Moment,
    BeforeValidator(_written_time),
    AfterValidator(_ahead),
    Field(examples=["2030-01-31T20:15:00Z"]),
]

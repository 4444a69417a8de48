"""The tables are closed to states that cannot be."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

USER = (
    "INSERT INTO users (user_id, name, name_key, password_hash, role, created_at,"
    " password_changed_at) VALUES ({}, {}, {}, {}, {}, now(), now())"
)
ID, HASH = "'user-00000000000000000000000000000000'", "'$argon2id$v=19$x'"
SESSION = (
    "INSERT INTO sessions (selector, token_digest, user_id, created_at, last_used_at, expires_at)"
    " SELECT {}, {}, user_id, now(), now(), now() + {} FROM users"
)
SELECTOR, DIGEST = "decode(repeat('00', 16), 'hex')", "decode(repeat('00', 32), 'hex')"
KEY = (
    "INSERT INTO api_keys (key_id, secret_digest, name, scopes, created_by, created_at, expires_at)"
    " VALUES ({}, {}, {}, {}, 'erased', now(), {})"
)
KEY_ID, SCOPES = "'0123456789ab'", "ARRAY['events']"
AUDIT = (
    "INSERT INTO audit (event_id, actor, action, acted_at, address) VALUES ('1', {}, 'x', {}, {})"
)


@pytest.mark.parametrize(
    "statement",
    [
        USER.format("'ada'", "'ada'", "'ada'", HASH, "'user'"),
        USER.format(ID, "'ad'", "'ada'", HASH, "'user'"),
        USER.format(ID, "'ada'", "'ada'", "'twelve brass cogs'", "'user'"),
        USER.format(ID, "'ada'", "'ada'", HASH, "'owner'"),
        SESSION.format("'\\x00'::bytea", DIGEST, "interval '1 h'"),
        SESSION.format(SELECTOR, "'\\x00'::bytea", "interval '1 h'"),
        SESSION.format(SELECTOR, DIGEST, "interval '0 h'"),
        KEY.format("'key'", DIGEST, "'k'", SCOPES, "NULL"),
        KEY.format(KEY_ID, "'\\x00'::bytea", "'k'", SCOPES, "NULL"),
        KEY.format(KEY_ID, DIGEST, "''", SCOPES, "NULL"),
        KEY.format(KEY_ID, DIGEST, "'k'", "ARRAY['all']", "NULL"),
        KEY.format(KEY_ID, DIGEST, "'k'", "'{}'::text[]", "NULL"),
        KEY.format(KEY_ID, DIGEST, "'k'", SCOPES, "now()"),
        AUDIT.format("'erased'", "now()", "'192.0.2.7'"),
        AUDIT.format("'ada'", "'infinity'", "NULL"),
        "INSERT INTO erased_users (user_digest) VALUES ('\\x00'::bytea)",
    ],
)
async def test_impossible_states_cannot_be_stored(store: Any, statement: str) -> None:
    with pytest.raises(IntegrityError, match="violates check constraint"):
        await store.execute(statement.replace("::", "\\:\\:"))


async def test_what_is_possible_can_be_stored(store: Any) -> None:
    for statement in (
        USER.format(ID, "'ada'", "'ada'", HASH, "'user'"),
        SESSION.format(SELECTOR, DIGEST, "interval '1 h'") + " WHERE name = 'ada'",
        KEY.format(KEY_ID, DIGEST, "'k'", SCOPES, "NULL"),
        AUDIT.format("'erased'", "now()", "NULL"),
    ):
        await store.execute(statement)

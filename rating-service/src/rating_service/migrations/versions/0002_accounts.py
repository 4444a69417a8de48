"""Users, their sessions, API keys, and what administrators did."""

from alembic import op
from service_kit.migrations import create_erasure_table

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# `name_key` is what all spellings of a name share; that it is unique keeps look-alikes out, also
# when two sign up at the same time.
_USERS = """
CREATE TABLE users (
    user_id             text COLLATE "C" PRIMARY KEY CHECK (user_id ~ '^user-[0-9a-f]{32}$'),
    name                text NOT NULL CHECK (char_length(name) BETWEEN 3 AND 30),
    name_key            text COLLATE "C" NOT NULL UNIQUE,
    password_hash       text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    role                text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    created_at          timestamptz NOT NULL,
    password_changed_at timestamptz NOT NULL
)
"""

# A session is a family of refresh tokens, of which only the newest is good. A token names its
# session by `selector`; one that does but is not the newest was used before, and ends the session.
_SESSIONS = """
CREATE TABLE sessions (
    selector     bytea PRIMARY KEY CHECK (octet_length(selector) = 16),
    token_digest bytea NOT NULL CHECK (octet_length(token_digest) = 32),
    user_id      text COLLATE "C" NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    CHECK (last_used_at < expires_at)
) WITH (fillfactor = 70)
"""

# `created_by` is a user's id, or `erased`: a key outlives who made it.
_API_KEYS = """
CREATE TABLE api_keys (
    key_id        text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{12}$'),
    secret_digest bytea NOT NULL CHECK (octet_length(secret_digest) = 32),
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    scopes        text[] NOT NULL CHECK (
        cardinality(scopes) > 0 AND scopes <@ ARRAY['events', 'views', 'movies', 'admin']),
    created_by    text COLLATE "C" NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz CHECK (expires_at > created_at),
    revoked_at    timestamptz
)
"""

# `actor` is a user's id, `key:` and an API key's id, or `erased`.
_AUDIT = """
CREATE TABLE audit (
    event_id text PRIMARY KEY,
    actor    text COLLATE "C" NOT NULL,
    action   text NOT NULL,
    acted_at timestamptz NOT NULL CHECK (isfinite(acted_at)),
    address  text,
    CONSTRAINT audit_erased_has_no_address CHECK (actor <> 'erased' OR address IS NULL)
)
"""

_INDEXES = (
    "CREATE INDEX users_admins ON users (user_id) WHERE role = 'admin'",
    "CREATE INDEX sessions_user ON sessions (user_id, last_used_at)",
    "CREATE INDEX sessions_expiry ON sessions (expires_at)",
    "CREATE INDEX api_keys_created_by ON api_keys (created_by)",
    "CREATE INDEX audit_newest ON audit (acted_at DESC, event_id)",
    "CREATE INDEX audit_newest_of_actor ON audit (actor, acted_at DESC, event_id)",
)


def upgrade() -> None:
    """Create the tables above, and that of those who were erased."""
    create_erasure_table(op)
    for statement in (_USERS, _SESSIONS, _API_KEYS, _AUDIT, *_INDEXES):
        op.execute(statement)

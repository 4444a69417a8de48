"""What users did with films, as columns: sorted by user, oldest first, each film once per user.

Views and ratings are both interactions; the caller gives each a weight (a strong liking 1, a weak
sign less). Users and films are numbered from 0 by the caller, without regard to their ids outside.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class History:
    """What one user did, oldest first.

    Attributes:
        items: (n,) film numbers.
        weights: (n,) how much each counts; 1 is a full liking.
    """

    items: Int
    weights: Float

    @classmethod
    def of(cls, *items: int) -> "History":
        """Picked films of equal weight, the most telling one last."""
        return cls(np.asarray(items, np.int64), np.ones(len(items), np.float32))


@dataclass(frozen=True, slots=True)
class Interactions:
    """Weighted interactions in order. Make them with `of`, which sorts and checks.

    Attributes:
        user, item: (n,) numbers below `users` and `items`.
        weight: (n,) above 0.
        age: (n,) how many later interactions the same user has; 0 for the newest.
        users, items: how many there are, with and without interactions.
    """

    user: Int
    item: Int
    weight: Float
    age: Int
    users: int
    items: int

    @classmethod
    def of(
        cls,
        user: npt.ArrayLike,
        item: npt.ArrayLike,
        time: npt.ArrayLike,
        weight: npt.ArrayLike | None = None,
        *,
        users: int,
        items: int,
    ) -> "Interactions":
        """Sorts by user and time; equal times keep the order they are given in.

        A film that a user met repeatedly counts once: at the latest time, with the greatest
        weight. Weights of 0 and below are left out: they are no sign of liking.

        Args:
            user, item: (n,) numbers from 0.
            time: (n,) anything that orders each user's interactions.
            weight: (n,); 1 for each where it is left out.
            users, items: how many there are.

        Raises:
            ValueError: columns of different lengths, numbers out of range, a weight that is not
                finite.
        """
        user_column = np.asarray(user, np.int64)
        item_column = np.asarray(item, np.int64)
        time_column = np.asarray(time)
        weight_column = (
            np.ones(len(user_column), np.float32)
            if weight is None
            else np.asarray(weight, np.float32)
        )
        lengths = {len(user_column), len(item_column), len(time_column), len(weight_column)}
        if len(lengths) > 1:
            msg = f"interactions: the columns have different lengths: {sorted(lengths)}"
            raise ValueError(msg)
        _require_below("user", user_column, users)
        _require_below("item", item_column, items)
        if not np.isfinite(weight_column).all():
            msg = "interactions: a weight is not finite"
            raise ValueError(msg)

        positive = weight_column > 0
        user_column, item_column = user_column[positive], item_column[positive]
        time_column, weight_column = time_column[positive], weight_column[positive]
        order = np.lexsort((time_column, user_column))
        user_column, item_column = user_column[order], item_column[order]
        weight_column = weight_column[order]

        # of equal (user, item) the last one stays, in its place
        pair = user_column * items + item_column
        grouped = np.argsort(pair, kind="stable")
        starts = np.flatnonzero(np.r_[True, pair[grouped][1:] != pair[grouped][:-1]])[: len(pair)]
        ends = np.r_[starts[1:], len(pair)][: len(starts)] - 1
        last = grouped[ends]
        greatest = (
            np.maximum.reduceat(weight_column[grouped], starts) if len(pair) else weight_column
        )
        in_order = np.argsort(last)
        kept = last[in_order]
        return cls._sorted(
            user_column[kept], item_column[kept], greatest[in_order], users=users, items=items
        )

    @classmethod
    def _sorted(
        cls, user: Int, item: Int, weight: Float, *, users: int, items: int
    ) -> "Interactions":
        ends = np.cumsum(np.bincount(user, minlength=users))
        age = ends[user] - 1 - np.arange(len(user))
        return cls(user, item, weight, age.astype(np.int64), users, items)

    def __len__(self) -> int:
        return len(self.user)

    def counts(self) -> Int:
        """(items,) how many users met each film."""
        return np.bincount(self.item, minlength=self.items).astype(np.int64)

    def newest(self, limit: int) -> "Interactions":
        """The newest `limit` interactions of each user."""
        kept = self.age < limit
        return self._sorted(
            self.user[kept],
            self.item[kept],
            self.weight[kept],
            users=self.users,
            items=self.items,
        )

    def among(self, films: Int) -> "Interactions":
        """Only the interactions with `films`, which are numbered anew in the order given."""
        number = np.full(self.items, -1, np.int64)
        number[films] = np.arange(len(films))
        kept = number[self.item] >= 0
        return self._sorted(
            self.user[kept],
            number[self.item[kept]],
            self.weight[kept],
            users=self.users,
            items=len(films),
        )

    def history(self, user: int) -> History:
        """What one user did, oldest first."""
        start, end = np.searchsorted(self.user, [user, user + 1])
        return History(self.item[start:end], self.weight[start:end])


def _require_below(name: str, column: Int, limit: int) -> None:
    if len(column) and not (column.min() >= 0 and column.max() < limit):
        msg = f"interactions: {name} must be from 0 to {limit - 1}, found {column.min()} to "
        raise ValueError(f"{msg}{column.max()}")

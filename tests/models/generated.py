"""Generated examples in which something is to be found: interests, a funnel, tastes."""

from __future__ import annotations

import numpy as np

from weiml.features import Batch

KINDS = 8
ITEMS_OF_KIND = 10


def _batch(
    labels: np.ndarray, cells: list[list[np.ndarray]], slots: tuple[str, ...], items: np.ndarray
) -> Batch:
    """Make a batch of cells[b][s], keys of example b in slot s."""
    flat = [cell for example in cells for cell in example]
    offsets = np.concatenate([[0], np.cumsum([len(cell) for cell in flat])]).astype(np.int32)
    count = len(labels)
    return Batch(
        labels=labels.astype(np.float32).reshape(count, -1),
        weights=np.ones(count, np.float32),
        dense=np.empty((count, 0), np.float32),
        keys=np.concatenate(flat).astype(np.uint64),
        offsets=offsets,
        groups=np.arange(count, dtype=np.uint64),
        items=items.astype(np.uint64),
        times=np.arange(count, dtype=np.int64),
        slots=slots,
        dense_names=(),
    )


def interests(count: int, seed: int, *, ordered: bool = False) -> Batch:
    """Return clicks on items of a kind that the history has (last, if `ordered`).

    Histories are of three kinds of items, 3 to 14 events of them; half of the candidates are of one
    of those. `ordered`: only the kind of the last two events counts.
    """
    rng = np.random.default_rng(seed)
    cells, labels, items = [], [], []
    for _ in range(count):
        liked = rng.choice(KINDS, 3, replace=False)
        kinds = rng.choice(liked, rng.integers(3, 15))
        events = kinds * ITEMS_OF_KIND + rng.integers(0, ITEMS_OF_KIND, len(kinds))
        kind = rng.choice(liked) if rng.random() < 0.5 else rng.integers(KINDS)
        item = kind * ITEMS_OF_KIND + rng.integers(ITEMS_OF_KIND)
        alike = kind in (kinds[-2:] if ordered else kinds)
        labels.append(rng.random() < (0.8 if alike else 0.2))
        cells.append([np.array([item + 1]), events + 1])
        items.append(item)
    return _batch(np.array(labels), cells, ("item", "history"), np.array(items))


def funnel(count: int, seed: int) -> Batch:
    """Return clicks, and buys of a few in a hundred: of users and items with tastes of both."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(0)
    users, goods = fixed.standard_normal((300, 4)), fixed.standard_normal((200, 4))
    user, item = rng.integers(0, 300, count), rng.integers(0, 200, count)
    taste = (users[user] * goods[item]).sum(1) / 2
    click = rng.random(count) < 1 / (1 + np.exp(1.0 - 1.5 * taste - 0.5 * users[user, 0]))
    buy = rng.random(count) < 1 / (1 + np.exp(3.0 - 1.2 * taste - goods[item, 0]))
    cells = [[np.array([u + 1]), np.array([i + 1001])] for u, i in zip(user, item, strict=True)]
    return _batch(np.column_stack([click, click & buy]), cells, ("user", "item"), item)


def tastes(count: int, seed: int) -> Batch:
    """Return clicks alone: users pick items near to them, popular ones more often."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(0)
    users, goods = fixed.standard_normal((200, 4)), fixed.standard_normal((300, 4))
    likes = users @ goods.T - 0.8 * np.log(np.arange(1, 301))
    user = rng.integers(0, 200, count)
    item = np.argmax(likes[user] + rng.gumbel(size=(count, 300)), 1)
    cells = [[np.array([u + 1]), np.array([i + 1001])] for u, i in zip(user, item, strict=True)]
    return _batch(np.ones(count), cells, ("user", "item"), item)

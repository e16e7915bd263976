"""What holds of every rule: rows at addresses, in order, alone, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ps.optimizers.references import RULES
from weiml.ps.optimizers import MatrixOptimizer, Optimizer
from weiml.ps.optimizers.rows import matrix_addresses

every_rule = pytest.mark.parametrize("rule", RULES, ids=repr)


class Memory:
    """Rows with a gap behind each, as statistics are, at addresses."""

    def __init__(self, rule: Optimizer, count: int, dim: int, seed: int = 0) -> None:
        self.rule, self.dim, self.width = rule, dim, rule.width(dim)
        self.words = np.full((count, self.width + 2), np.nan, np.float32)
        self.addresses = matrix_addresses(self.words)
        rng = np.random.default_rng(seed)
        rule.init(self.addresses, rng.normal(size=(count, dim)).astype(np.float32))

    @property
    def state(self) -> np.ndarray:
        return self.words[:, : self.width].copy()

    def gap_is_untouched(self) -> bool:
        return bool(np.isnan(self.words[:, self.width :]).all())


def some_push(
    rng: np.random.Generator, count: int, dim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    grads = rng.normal(size=(count, dim)).astype(np.float32)
    counts = rng.integers(1, 9, count).astype(np.float32)
    return grads, counts, (grads**2 * rng.uniform(0.5, 2, (count, dim))).astype(np.float32)


@every_rule
@pytest.mark.parametrize("dim", [1, 3, 16])
def test_addresses_and_matrices_give_the_same_bits(rule: Optimizer, dim: int) -> None:
    rng = np.random.default_rng(dim)
    memory = Memory(rule, 40, dim)
    weights = np.random.default_rng(0).normal(size=(40, dim)).astype(np.float32)
    state = rule.initial_state(weights)
    assert state.dtype == np.float32
    assert np.array_equal(memory.state, state)
    for push in (some_push(rng, 40, dim), some_push(rng, 40, dim)[:1]):
        before = state.copy()
        after = rule.update(state, *push)
        assert np.array_equal(state, before), "update is a pure function"
        rule.apply(memory.addresses, *push)
        assert np.array_equal(memory.state, after)
        assert not np.array_equal(after, before)
        state = after
    assert np.array_equal(rule.read(memory.addresses, dim), rule.weights(state))
    assert np.array_equal(rule.read_training(memory.addresses, dim), rule.training_weights(state))
    assert rule.read(memory.addresses, dim).shape == (40, dim)
    assert memory.gap_is_untouched()


@every_rule
@given(
    places=st.lists(st.integers(0, 5), max_size=30),
    dim=st.integers(1, 8),
    given_counts=st.booleans(),
    given_squares=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=10)
def test_a_repeated_address_takes_its_gradients_in_turn_and_others_stay_as_they_are(
    rule: Optimizer,
    places: list[int],
    dim: int,
    given_counts: bool,
    given_squares: bool,
    seed: int,
) -> None:
    memory = Memory(rule, 7, dim, seed)  # row 6 is never named
    one_by_one = memory.state
    grads, counts, squares = some_push(np.random.default_rng(seed), len(places), dim)
    some_counts = counts if given_counts else None
    some_squares = squares if given_squares else None
    where = memory.addresses[np.array(places, np.int64)]
    rule.apply(where, grads, some_counts, some_squares)
    for i, place in enumerate(places):
        one_by_one[place] = rule.update(
            one_by_one[place : place + 1],
            grads[i : i + 1],
            None if some_counts is None else counts[i : i + 1],
            None if some_squares is None else squares[i : i + 1],
        )[0]
    assert np.array_equal(memory.state, one_by_one)
    assert memory.gap_is_untouched()


@every_rule
def test_rows_that_are_not_named_neither_decay_nor_move(rule: Optimizer) -> None:
    rng = np.random.default_rng(5)
    memory = Memory(rule, 20, 4)
    rule.apply(memory.addresses, *some_push(rng, 20, 4))  # velocity and moments to go on with
    before = memory.state
    for _ in range(3):
        rule.apply(memory.addresses[:10], *some_push(rng, 10, 4))
    assert np.array_equal(memory.state[10:], before[10:])
    assert (memory.state[:10] != before[:10]).any(axis=1).all()


@every_rule
@pytest.mark.parametrize("dim", [1, 5, 16])
@pytest.mark.parametrize("chunk", [1, 64, 999])
def test_the_bits_do_not_depend_on_how_rows_are_cut_into_chunks(
    rule: Optimizer, dim: int, chunk: int
) -> None:
    rng = np.random.default_rng(6)
    together, cut = Memory(rule, 300, dim), Memory(rule, 300, dim)
    for _ in range(2):
        order = rng.integers(0, 300, 1000)
        grads, counts, squares = some_push(rng, 1000, dim)
        rule.apply(together.addresses[order], grads, counts, squares)
        for first in range(0, 1000, chunk):
            part = slice(first, first + chunk)
            rule.apply(cut.addresses[order[part]], grads[part], counts[part], squares[part])
    assert np.array_equal(together.state, cut.state)
    assert np.isfinite(cut.state).all()


@every_rule
def test_one_example_is_the_same_counted_and_uncounted(rule: Optimizer) -> None:
    rng = np.random.default_rng(7)
    state = Memory(rule, 30, 3).state
    ones = np.ones(30, np.float32)
    for _ in range(4):
        grads = rng.normal(size=(30, 3)).astype(np.float32)
        plain = rule.update(state, grads)
        assert np.array_equal(rule.update(state, grads, ones), plain)
        assert np.array_equal(rule.update(state, grads, ones, grads * grads), plain)
        assert np.array_equal(rule.update(state, grads, None, grads * grads), plain)
        state = plain


@every_rule
def test_read_only_and_strided_arrays_of_other_types_will_do(rule: Optimizer) -> None:
    memory, expected = Memory(rule, 8, 2), Memory(rule, 8, 2)
    grads = np.random.default_rng(8).normal(size=(8, 4))
    rule.apply(expected.addresses, grads[:, :2].astype(np.float32))
    where = memory.addresses.copy()
    grads.flags.writeable = where.flags.writeable = False
    rule.apply(where, grads[:, :2])
    assert np.array_equal(memory.state, expected.state)


@every_rule
def test_no_rows_are_fine(rule: Optimizer) -> None:
    none = np.zeros(0, np.int64)
    rule.apply(none, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    rule.init(none, np.zeros((0, 3), np.float32))
    assert rule.read(none, 3).shape == (0, 3)
    assert rule.update(np.zeros((0, rule.width(3)), np.float32), np.zeros((0, 3))).size == 0
    assert rule.weights(np.zeros((0, rule.width(3)), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("rule", [r for r in RULES if not getattr(r, "l21", 0.0)], ids=repr)
def test_quantities_lie_one_after_the_other(rule: Optimizer) -> None:
    """The row of two weights is made of the rows of each, quantity by quantity."""
    rng = np.random.default_rng(9)
    grads = rng.normal(size=(5, 2)).astype(np.float32)
    both = rule.update(rule.initial_state(np.zeros((5, 2), np.float32)), grads)
    for c in range(2):
        one = rule.update(rule.initial_state(np.zeros((5, 1), np.float32)), grads[:, c : c + 1])
        columns = [2 * quantity + c for quantity in range(rule.columns)]
        assert np.array_equal(both[:, columns], one[:, : rule.columns])
        assert np.array_equal(both[:, 2 * rule.columns :], one[:, rule.columns :])


@every_rule
def test_the_rules_say_whether_their_state_holds_the_weights(rule: Optimizer) -> None:
    state = Memory(rule, 10, 3).state
    state = rule.update(state, np.ones((10, 3), np.float32))
    assert np.array_equal(state[:, :3], rule.training_weights(state)) == rule.stores_weights


@every_rule
def test_a_rule_written_on_matrices_does_the_same_slowly(rule: Optimizer) -> None:
    class OnMatrices(MatrixOptimizer):
        name = "on_matrices"
        sums, columns, extras = rule.sums, rule.columns, rule.extras

        def initial_state(self, weights: np.ndarray) -> np.ndarray:
            return rule.initial_state(weights)

        def update(
            self,
            state: np.ndarray,
            grads: np.ndarray,
            counts: np.ndarray | None = None,
            squares: np.ndarray | None = None,
        ) -> np.ndarray:
            return rule.update(state, grads, counts, squares)

    slow = OnMatrices()
    memory, expected = Memory(slow, 9, 3), Memory(rule, 9, 3)
    rng = np.random.default_rng(11)
    for push in (some_push(rng, 40, 3), some_push(rng, 40, 3)[:1], some_push(rng, 0, 3)):
        order = rng.integers(0, 9, len(push[0]))
        slow.apply(memory.addresses[order], *push)
        rule.apply(expected.addresses[order], *push)
        assert np.array_equal(memory.state, expected.state)
    assert np.array_equal(slow.read(memory.addresses, 3), memory.state[:, :3])
    assert np.array_equal(slow.read_training(memory.addresses, 3), memory.state[:, :3])
    assert np.array_equal(slow.training_weights(memory.state), memory.state[:, :3])
    assert memory.gap_is_untouched()


@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adam", "asgd"])
def test_a_row_goes_on_well_after_very_many_gradients(name: str) -> None:
    rule = next(rule for rule in RULES if rule.name == name)
    state = rule.initial_state(np.ones((1, 2), np.float32))
    grads = np.array([[0.5, -0.25]], np.float32)
    for count in (1.0, 2.0**20, 2.0**30, 2.0**40):
        counts = np.array([count], np.float32)
        for _ in range(3):
            state = rule.update(state, grads * np.float32(count), counts)
            assert np.isfinite(state).all()
    last = rule.update(state, grads)
    moved = last[0, :2] - state[0, :2]
    assert moved[0] < 0 < moved[1], "single gradients still count"

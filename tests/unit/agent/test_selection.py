"""RFC 2782's selection, drawn 100,000 times, against the distribution that the RFC's own words give, computed exactly."""

from __future__ import annotations

import functools
import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollcall.resolve import Target, ordered

DRAWS = 100_000
# The least wrong selection below (that of three equal weights in the answer's order) has a noncentrality of 104 with so many, at
# two degrees of freedom and a limit of 19.3: not one in a hundred million of its runs would pass. More refuse it still.
WRONG_DRAWS = 50_000
WEIGHTS = [(10, 10, 10), (1, 2, 7), (0, 0, 5, 20), (0, 1, 99), (5, 10, 15, 20, 50)]
# One right selection in ten thousand would be refused. The seeds are fixed, so it is the same one each time.
SURE = 0.9999
Order = tuple[int, ...]
Draw = Callable[[Sequence[Target], random.Random], Iterable[Target]]


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311


def targets(weights: Sequence[int], priority: int = 1) -> list[Target]:
    """The port says which weight it is."""
    return [Target(priority, weight, at, f"host-{at}") for at, weight in enumerate(weights)]


@functools.cache
def first(weights: Order) -> tuple[Fraction, ...]:
    """How likely each weight is to be chosen first, by the RFC's words: arrange them in any order, those of weight 0 at the
    beginning; compute the running sums; of the numbers from 0 to the sum inclusive take one; the first whose running sum is
    greater than or equal to it. "Any order" is taken as each as likely as the others."""
    found = [Fraction(0)] * len(weights)
    arrangements = list(itertools.permutations(range(len(weights))))
    for shuffled in arrangements:
        arranged = sorted(shuffled, key=lambda at: weights[at] > 0)
        sums = list(itertools.accumulate(weights[at] for at in arranged))
        for number in range(sums[-1] + 1):
            chosen = next(at for at, running in zip(arranged, sums, strict=True) if running >= number)
            found[chosen] += Fraction(1, len(arrangements) * (sums[-1] + 1))
    return tuple(found)


def whole(weights: Order) -> dict[Order, Fraction]:
    """How likely each order is: the same again among those that are left."""
    found = {}
    for order in itertools.permutations(range(len(weights))):
        left, chance = list(range(len(weights))), Fraction(1)
        for at in order:
            chance *= first(tuple(weights[each] for each in left))[left.index(at)]
            left.remove(at)
        found[order] = chance
    return found


def drawn(draw: Draw, weights: Order, seed: int = 2782, draws: int = DRAWS) -> Counter[Order]:
    dice, given_targets = seeded(seed), targets(weights)
    return Counter(tuple(each.port for each in draw(given_targets, dice)) for _ in range(draws))


def fits(seen: Counter[Order], expected: dict[Order, Fraction], draws: int = DRAWS) -> tuple[bool, str]:
    """Pearson's chi-square; classes too rare for it (below five expected) are taken together."""
    assert sum(expected.values()) == 1
    assert sum(seen.values()) == draws
    impossible = [each for each in seen if not expected.get(each)]
    if impossible:
        return False, f"drew what cannot be: {impossible[:3]}"
    classes, rare = [], [0.0, 0.0]
    for each, chance in expected.items():
        mean = float(chance * draws)
        if mean >= 5:
            classes.append((seen[each], mean))
        else:
            rare = [rare[0] + seen[each], rare[1] + mean]
    if rare[1] >= 5:
        classes.append((int(rare[0]), rare[1]))
    statistic = sum((count - mean) ** 2 / mean for count, mean in classes)
    freedom = len(classes) - 1
    # Wilson and Hilferty's approximation of the quantile, 5 % too large at two degrees of freedom, 2 % at five.
    z = statistics.NormalDist().inv_cdf(SURE)
    limit = freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3
    return statistic <= limit, f"chi-square {statistic:.1f}, limit {limit:.1f}, {freedom} degrees of freedom"


def first_pick(given_targets: Sequence[Target], dice: random.Random) -> Iterable[Target]:
    """As a client asks that reaches the first: what comes after it is not drawn."""
    return itertools.islice(ordered(given_targets, dice), 1)


def firsts(seen: Counter[Order]) -> Counter[Order]:
    found: Counter[Order] = Counter()
    for order, count in seen.items():
        found[order[:1]] += count
    return found


def first_by_order(weights: Order) -> dict[Order, Fraction]:
    return {(at,): chance for at, chance in enumerate(first(weights))}


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
class TestRight:
    def test_the_first_pick_is_distributed_as_the_rfc_has_it(self, weights: Order) -> None:
        right, figures = fits(drawn(first_pick, weights), first_by_order(weights))
        print(f"\n{weights} first pick: {figures}")
        assert right, figures

    def test_whole_orders_are_distributed_as_the_rfc_has_it(self, weights: Order) -> None:
        right, figures = fits(drawn(ordered, weights, seed=6763), whole(weights))
        print(f"\n{weights} whole orders: {figures}")
        assert right, figures


def shuffled(given_targets: Sequence[Target], dice: random.Random) -> list[Target]:
    return dice.sample(list(given_targets), len(given_targets))


def by_weighted_noise(given_targets: Sequence[Target], dice: random.Random) -> list[Target]:
    """Often seen: a random number times the weight, largest first."""
    return sorted(given_targets, key=lambda each: -dice.random() * each.weight)


def _running(given_targets: Sequence[Target], dice: random.Random, least: int, arrange: bool) -> list[Target]:
    left, found = list(given_targets), []
    while left:
        if arrange:
            dice.shuffle(left)
        total = sum(each.weight for each in left)
        number = dice.randint(min(least, total), total)
        sums = list(itertools.accumulate(each.weight for each in left))
        found.append(left.pop(next(at for at, running in enumerate(sums) if running >= number)))
    return found


def in_the_answers_order(given_targets: Sequence[Target], dice: random.Random) -> list[Target]:
    """The first target of the answer always gets the number 0."""
    return _running(sorted(given_targets), dice, 0, False)


def from_one_on(given_targets: Sequence[Target], dice: random.Random) -> list[Target]:
    """Weight 0 gets no chance at all while there is another."""
    return _running(sorted(given_targets, key=lambda each: -each.weight), dice, 1, False)


def zeros_anywhere(given_targets: Sequence[Target], dice: random.Random) -> list[Target]:
    """Weight 0 not at the beginning: then 0 may choose another."""
    return _running(given_targets, dice, 0, True)


@pytest.mark.parametrize(
    ("wrong", "weights"),
    [
        (shuffled, (1, 2, 7)),
        (shuffled, (0, 0, 5, 20)),
        (shuffled, (0, 1, 99)),
        (shuffled, (5, 10, 15, 20, 50)),
        (by_weighted_noise, (1, 2, 7)),
        (by_weighted_noise, (5, 10, 15, 20, 50)),
        (in_the_answers_order, (10, 10, 10)),
        (in_the_answers_order, (0, 0, 5, 20)),
        (from_one_on, (0, 1, 99)),
        (from_one_on, (0, 0, 5, 20)),
        (zeros_anywhere, (0, 0, 5, 20)),
    ],
)
def test_a_wrong_selection_fails_the_same_chi_square(wrong: Draw, weights: Order) -> None:
    seen = drawn(wrong, weights, draws=WRONG_DRAWS)
    right, figures = fits(firsts(seen), first_by_order(weights), WRONG_DRAWS)
    assert not right, figures
    right, figures = fits(seen, whole(weights), WRONG_DRAWS)
    assert not right, figures


def test_right_first_picks_followed_by_a_wrong_order_fail_for_whole_orders() -> None:
    def half_right(given_targets: Sequence[Target], dice: random.Random) -> list[Target]:
        head = next(iter(ordered(given_targets, dice)))
        return [head, *shuffled([each for each in given_targets if each != head], dice)]

    seen = drawn(half_right, (1, 2, 7))
    assert fits(firsts(seen), first_by_order((1, 2, 7)))[0]
    assert not fits(seen, whole((1, 2, 7)))[0]


def test_the_expectation_is_what_a_hand_computes() -> None:
    # 0 to 10 inclusive: eleven numbers; 0 is shared by the three.
    assert first((1, 2, 7)) == (Fraction(4, 33), Fraction(7, 33), Fraction(22, 33))
    # The number 0 goes to the one of weight 0, and no other.
    assert first((0, 1, 99)) == (Fraction(1, 101), Fraction(1, 101), Fraction(99, 101))
    assert first((0, 0)) == (Fraction(1, 2), Fraction(1, 2))


# Not in the order in which a set of them is walked through.
PRIORITIES = st.sampled_from([0, 1, 8, 64, 1000, 65_535])


@settings(deadline=None)
@given(
    st.lists(st.builds(Target, PRIORITIES, st.integers(0, 65_535), st.integers(1, 65_535), st.text("ab"))),
    st.integers(),
)
def test_each_target_comes_once_and_lower_priorities_first(given_targets: list[Target], seed: int) -> None:
    order = list(ordered(given_targets, seeded(seed)))
    assert sorted(order) == sorted(given_targets)
    assert [each.priority for each in order] == sorted(each.priority for each in given_targets)


def test_weights_do_not_reach_over_priorities() -> None:
    given_targets = [*targets((0,), priority=1), *targets((65_535,) * 3, priority=2)]
    assert {next(ordered(given_targets, seeded(seed))).priority for seed in range(1000)} == {1}

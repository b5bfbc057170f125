import itertools

from dreamer import seeds

SEEDS = (0, 1, 5, 2**31, 2**32, 2**32 + 5, 2**63 - 1)
EXPECTED = [
    104819729,
    373255185,
    641690641,
    910126097,
    1178561553,
    1446997009,
    1715432465,
]  # of the first release that had this module
COUNTS = (0, 1, 2, 250, 1000, 2**32, 2**32 + 1)


def test_no_two_purposes_share_a_seed_whatever_is_counted():
    found = {
        purpose: {seeds.derive(seed, purpose, a, b) for seed in SEEDS for a in COUNTS for b in COUNTS}
        for purpose in seeds.PURPOSES
    }
    for one, other in itertools.combinations(seeds.PURPOSES, 2):
        assert not found[one] & found[other]


def test_every_count_has_a_seed_of_its_own():
    cases = list(itertools.product(SEEDS, COUNTS, COUNTS))
    assert len({seeds.derive(seed, "collect", a, b) for seed, a, b in cases}) == len(cases)


def test_seeds_are_what_every_simulator_takes():
    for purpose in seeds.PURPOSES:
        assert all(0 <= seeds.derive(seed, purpose, 7) < 2**31 for seed in SEEDS)
    assert len(seeds.PURPOSES) <= 8


def test_they_stay_what_they_are():
    """A run that goes on with a newer release draws on."""
    drawn = [seeds.derive(3, purpose, 1000, 2) for purpose in seeds.PURPOSES]
    assert drawn == EXPECTED

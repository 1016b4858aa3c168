import numpy as np
import pytest

from csl_tracker.datasets.rendered.world import FAMILIES, draw_world

MAY_BE_PLAIN = {"black", "white_out", "gradient", "red_out", "table"}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_drawn(family: str) -> None:
    spreads = []
    for seed in range(4):
        picture = draw_world(np.random.default_rng(seed), (96, 128), family)
        assert picture.family == family
        assert picture.image.shape == (96, 128, 3)
        assert picture.image.dtype == np.uint8
        spreads.append(float(picture.image.std()))
    assert max(spreads) > (0.5 if family in MAY_BE_PLAIN else 8), "not constant"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_one_picture(family: str) -> None:
    one, again, other = (draw_world(np.random.default_rng(seed), (64, 80), family).image for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("size", [(256, 320), (288, 360), (480, 300), (33, 47)])
def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    for seed in range(12):
        assert draw_world(np.random.default_rng(seed), size).image.shape == (*size, 3)


def test_blind_frames_are_a_minority() -> None:
    families = [draw_world(np.random.default_rng(seed), (24, 32)).family for seed in range(200)]
    blind = {"black", "red_out", "white_out", "gradient", "noise", "screen", "smear"}
    assert 0.08 < np.mean([family in blind for family in families]) < 0.35
    assert len(set(families)) > 18


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(ValueError, match="Unknown background family 'sky'; known: chessboard, circle_grid, "):
        draw_world(np.random.default_rng(0), (64, 80), "sky")

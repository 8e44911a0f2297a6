"""Pictures are written as Matplotlib's own ``savefig`` would, in one drawing."""

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image

from scripts import style


def drawn():
    figure, axes = plt.subplots(1, 2, figsize=(3, 2), layout="constrained")
    axes[0].plot([0, 1], [1, 1000], label="a line")
    axes[0].set_ylabel("of some width")
    figure.legend(loc="outside lower center")
    return figure


def test_the_picture_is_that_of_savefig_and_is_closed(tmp_path):
    expected = drawn()
    expected.savefig(tmp_path / "expected.png", dpi=90)
    plt.close(expected)
    figure = drawn()
    style.save(figure, tmp_path / "of" / "style.png", dpi=90)
    assert not plt.fignum_exists(figure.number)
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in ("expected.png", "of/style.png")]
    np.testing.assert_array_equal(*pictures)

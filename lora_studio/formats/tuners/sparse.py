"""SHiRA and FourierFT: few numbers at known places, of the update or of its spectrum."""

from __future__ import annotations

import numpy as np

from lora_studio.formats.converters import draws
from lora_studio.formats.low_rank import Pair, Short, shorten
from lora_studio.formats.setting import Setting
from lora_studio.formats.tuners.checks import Tensors, agree, fit, need


def shira(path: str, found: Tensors, setting: Setting) -> Short:
    """The weights at their places, zero elsewhere (2406.13175)."""
    values, places = need(path, found, "shira_weight", "shira_indices")
    values = values.reshape(-1)
    d_out, d_in = setting.size(path)
    whole = places.astype(np.int64)
    fits = whole.shape == (2, len(values)) and bool(np.all(whole == places)) and whole.min() >= 0
    agree(path, fits and whole[0].max() < d_out and whole[1].max() < d_in, values, places)
    rows, own = np.unique(whole[0], return_inverse=True)
    columns, others = np.unique(whole[1], return_inverse=True)
    fit(path, len(rows) * len(columns))
    dense = np.zeros((len(rows), len(columns)))
    np.add.at(dense, (own, others), values)
    short = shorten(path, dense)
    b, a = np.zeros((d_out, short.pair.rank)), np.zeros((short.pair.rank, d_in))
    b[rows], a[:, columns] = short.pair
    return Short(Pair(b, a), short.loss)


def fourierft(path: str, found: Tensors, setting: Setting) -> Short:
    """The real part of the inverse Fourier transform of a spectrum that has n numbers (2405.03003).

    A row of the spectrum that has any is one complex term, so two of the update's rank.
    """
    (values,) = need(path, found, "fourierft_spectrum")
    d_out, d_in = setting.size(path)
    cells = d_out * d_in
    agree(path, values.ndim == 1 and len(values) <= cells, values)
    fit(path, cells)
    places = draws.permutation(int(setting.number("random_loc_seed")), cells)[: len(values)]
    values = values * setting.number("scaling")
    rows, own = np.unique(places // d_in, return_inverse=True)
    if 2 * len(rows) >= min(d_out, d_in):
        spectrum = np.zeros((d_out, d_in))
        spectrum[places // d_in, places % d_in] = values
        return shorten(path, np.fft.ifft2(spectrum).real)
    terms = np.zeros((len(rows), d_in))
    terms[own, places % d_in] = values
    right = np.fft.ifft(terms, axis=1)  # (rows, d_in)
    turns = np.outer(np.arange(d_out), rows) % d_out  # exact: angles stay below one turn
    left = np.exp(2j * np.pi * turns / d_out) / d_out  # (d_out, rows)
    b = np.concatenate([left.real, -left.imag], axis=1)
    return shorten(path, Pair(b, np.concatenate([right.real, right.imag], axis=0)))

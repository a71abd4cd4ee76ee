"""The low-rank ridge regression, against dense textbook computations."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from lora_studio.composition.merging.reduced_rank import Whitening

WIDTH, OUT, RIDGE = 12, 7, 0.05


def problem(rows, seed=0):
    """Two sources' inputs and wanted outputs, and their parts (A, B) of a prior."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2 * rows, WIDTH)) * np.linspace(0.2, 3, WIDTH)
    y = rng.normal(size=(2 * rows, OUT))
    priors = [(rng.normal(size=(2, WIDTH)), rng.normal(size=(OUT, 2))) for _ in range(2)]
    return z, y, priors


def dense(z, y, priors, rank):
    """M, the ridge weight e, U, C^(-1/2) and V by formula, with full matrices only."""
    c = z.T @ z
    e = RIDGE * np.trace(c) / WIDTH
    prior = sum(b @ a for a, b in priors)
    half = np.real(sqrtm(c + e * np.eye(WIDTH)))
    q = (y.T @ z + e * prior) @ np.linalg.inv(half)
    u, s, vt = np.linalg.svd(q)
    m = (u[:, :rank] * s[:rank]) @ vt[:rank] @ np.linalg.inv(half)
    return m, e, prior, (u[:, :rank], s[:rank], vt[:rank], np.linalg.inv(half))


def solve(z, y, priors, rank, dual=None):
    half = len(z) // 2
    whitening = Whitening(torch.tensor(z), RIDGE, dual=dual)
    return whitening.solve(
        [torch.tensor(y[:half]), torch.tensor(y[half:])],
        [slice(0, half), slice(half, 2 * half)],
        [(torch.tensor(a), torch.tensor(b)) for a, b in priors],
        rank,
    )


def product(fitted):
    return (fitted.B @ fitted.A).numpy()


@pytest.mark.parametrize("rows", [2, 5, 40])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_it_is_the_closed_form_whether_rows_are_few_or_many(rows, rank):
    z, y, priors = problem(rows)
    expected, *_ = dense(z, y, priors, rank)
    np.testing.assert_allclose(product(solve(z, y, priors, rank)), expected, atol=1e-8)


@pytest.mark.parametrize("rows", [3, 30])
def test_dual_and_primal_agree(rows):
    z, y, priors = problem(rows)
    dual, primal = (solve(z, y, priors, 4, dual=d) for d in (True, False))
    np.testing.assert_allclose(product(dual), product(primal), atol=1e-8)
    np.testing.assert_allclose(dual.shares, primal.shares, atol=1e-8)


def test_no_matrix_of_that_rank_does_better():
    """Gradient descent on factors from several starts never gets below it."""
    z, y, priors = problem(20)
    _, e, prior, _ = dense(z, y, priors, 2)

    def loss(m):
        return ((z @ m.T - y) ** 2).sum() + e * ((m - prior) ** 2).sum()

    best = float(loss(product(solve(z, y, priors, 2))))
    rivals = []
    zt, yt, pt = torch.tensor(z), torch.tensor(y), torch.tensor(prior)
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        a = torch.randn(2, WIDTH, generator=draw, dtype=torch.float64, requires_grad=True)
        b = torch.randn(OUT, 2, generator=draw, dtype=torch.float64, requires_grad=True)
        steps = torch.optim.LBFGS([a, b], max_iter=400, line_search_fn="strong_wolfe")

        def step(a=a, b=b, steps=steps):
            steps.zero_grad()
            m = b @ a
            value = ((zt @ m.T - yt) ** 2).sum() + e * ((m - pt) ** 2).sum()
            value.backward()
            return value

        steps.step(step)
        rivals.append(float(loss((b @ a).detach().numpy())))
    assert best - 1e-6 < min(rivals) < best * 1.01  # the descent is a rival worth the name


def test_shares_are_what_each_source_adds_to_each_unit():
    z, y, priors = problem(10)
    _, e, _, (u, s, vt, root) = dense(z, y, priors, 3)
    shares = solve(z, y, priors, 3).shares.numpy()
    np.testing.assert_allclose(shares.sum(0), 1.0, atol=1e-9)
    for source, rows in enumerate((slice(0, 10), slice(10, 20))):
        a, b = priors[source]
        part = (y[rows].T @ z[rows] + e * b @ a) @ root
        np.testing.assert_allclose(shares[source], np.diag(u.T @ part @ vt.T) / s, atol=1e-8)


def test_no_more_units_than_there_is_to_fit():
    z, y, priors = problem(1)
    bare = [(a * 0, b * 0) for a, b in priors]
    assert solve(z, y, bare, 7).A.shape[0] == 2

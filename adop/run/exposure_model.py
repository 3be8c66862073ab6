"""Which exposure and white balance a camera would choose: candidates, compared on photos that each leaves out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STRENGTHS = 10.0 ** np.arange(-4, 3, 0.5)  # of the ridge, relative to the variance of the statistics
MIN_PHOTOS = 6  # trained photos, below which nothing is compared
CLEARLY_BETTER = 0.9  # at most this share of the error of the candidate that is replaced
STANDARD_ERRORS = 1.645  # by which the mean squared error is smaller: by chance in 5 % of the cases


@dataclass(frozen=True)
class ViewPrediction:
    """A linear prediction of K values from F statistics of a view's light, kept within limits."""

    offset: np.ndarray  # [K] float64
    weights: np.ndarray  # [F, K] float64
    limits: np.ndarray  # [2, K] least and largest prediction

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        """Return the predictions [..., K] for statistics [..., F]."""
        return np.clip(self.offset + statistics @ self.weights, *self.limits)


@dataclass(frozen=True)
class PhotoValues:
    """K values of P photos in the order of capture, and what they might be predicted from."""

    values: np.ndarray  # [P, K] learned; those of photos not trained on are ignored
    given: np.ndarray | None  # [P, K] known before training, from EXIF; None: unknown for some photo
    corrections: np.ndarray  # [P, K] learned minus where training started
    statistics: np.ndarray  # [P, F] of the light that each photo's view shows
    lens: np.ndarray  # [P] int
    trained: np.ndarray  # [P] bool
    margin: float  # how far predictions may leave the range of the trained photos' values


@dataclass(frozen=True)
class Choice:
    """How K values of new views are predicted, and why so."""

    errors: dict[str, float]  # root mean squared error of each candidate on trained photos that it left out
    photos: str  # the candidate that is used for photos that are not trained on
    views: str  # the candidate that is used for views that are not those of a photo: "light" or "mean"
    predicted: np.ndarray | None  # [P, K] of each photo; None: the candidate is "default"
    view: ViewPrediction


@dataclass(frozen=True)
class _Candidate:
    errors: np.ndarray  # [N, K] of the trained photos, each left out
    predicted: np.ndarray  # [P, K]
    view: ViewPrediction | None = None


def choose(photos: PhotoValues) -> Choice:
    """Return how to predict the values of photos that were not trained on, and of other views.

    Candidates for photos: "default", what `Tonemapper.photometry` expects of EXIF and of the photos before and after;
    "mean" of the trained photos; "neighbours", the photos before and after alone; "light" that the view shows; and,
    where EXIF is known, "exif" and "exif+light". Another one than the default must be clearly better than it on photos
    that were left out. Other views have the mean, unless light is clearly better.
    """
    trained = photos.trained
    values = photos.values[trained]
    mean = values.mean(0) if len(values) else np.zeros(values.shape[1])
    features = photos.statistics.shape[1]
    constant = ViewPrediction(mean, np.zeros((features, len(mean))), np.stack((mean, mean)))
    if len(values) < MIN_PHOTOS:
        return Choice({}, "default", "mean", None, constant)
    candidates = _candidates(photos)
    errors = {name: float(np.sqrt(np.square(c.errors).mean())) for name, c in candidates.items()}
    default = candidates["default"].errors
    better = [name for name, c in candidates.items() if _clearly_better(c.errors, default)]
    best = min(better, key=lambda name: errors[name], default="default")
    light = candidates["light"]
    follows_light = _clearly_better(light.errors, candidates["mean"].errors)
    view = light.view if follows_light and light.view is not None else constant
    predicted = None if best == "default" else candidates[best].predicted
    return Choice(errors, best, "light" if follows_light else "mean", predicted, view)


def _clearly_better(errors: np.ndarray, than: np.ndarray) -> bool:
    """Return whether errors [N, K] are smaller than others by so much that it is hardly chance."""
    mine, other = np.square(errors).mean(1), np.square(than).mean(1)
    gain = other - mine
    certain = gain.mean() > STANDARD_ERRORS * gain.std(ddof=1) / np.sqrt(len(gain))
    return bool(certain and mine.mean() <= CLEARLY_BETTER**2 * other.mean())


def _candidates(photos: PhotoValues) -> dict[str, _Candidate]:
    nothing = np.zeros_like(photos.values)
    base = nothing if photos.given is None else photos.given
    candidates = {
        "default": _by_neighbours(photos, base, photos.corrections),
        "mean": _by_neighbours(photos, nothing, nothing),
        "light": _by_light(photos, nothing),
    }
    if not np.array_equal(photos.corrections, photos.values):
        candidates["neighbours"] = _by_neighbours(photos, nothing, photos.values)
    if photos.given is not None:
        candidates["exif"] = _by_neighbours(photos, base, nothing)
        candidates["exif+light"] = _by_light(photos, base)
    return candidates


def _by_light(photos: PhotoValues, base: np.ndarray) -> _Candidate:
    """Predict what the values have beyond `base` [P, K] from light, and add it to `base`."""
    trained, statistics = photos.trained, photos.statistics
    residual = photos.values - base
    offset, weights, errors = fit_ridge(statistics[trained], residual[trained])
    values = photos.values[trained]
    limits = np.stack((values.min(0) - photos.margin, values.max(0) + photos.margin))
    predicted = np.clip(base + offset + statistics @ weights, *limits)
    return _Candidate(errors, predicted, ViewPrediction(offset, weights, limits))


def fit_ridge(statistics: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit values [N, K] by statistics [N, F]; return offset [K], weights [F, K] and the errors [N, K] left out.

    The statistics share one unit, so one strength shrinks all weights: the one with the smallest errors left out.

    Source: Allen 1974, the closed form of leave-one-out errors (PRESS).
    """
    centre, mean = statistics.mean(0), values.mean(0)
    left, singular, right = np.linalg.svd(statistics - centre, full_matrices=False)
    power = np.square(singular)
    total = max(float(power.sum()), 1e-12)
    along = left.T @ (values - mean)
    fits = []
    for strength in STRENGTHS:
        shrink = power / (power + strength * total)
        leverage = 1 / len(values) + np.square(left) @ shrink
        errors = (mean + left @ (shrink[:, None] * along) - values) / np.maximum(1 - leverage, 1e-9)[:, None]
        weights = right.T @ ((singular / (power + strength * total))[:, None] * along)
        fits.append((float(np.square(errors).mean()), weights, errors))
    _, weights, errors = min(fits, key=lambda fit: fit[0])
    return mean - centre @ weights, weights, errors


def _by_neighbours(photos: PhotoValues, base: np.ndarray, moved: np.ndarray) -> _Candidate:
    """Predict `base` [P, K], plus the mean by which values exceed it, plus what `moved` [P, K] of the neighbours says.

    The last is the mean of the trained photos before and after times the factor in [0, 1] that fits best, as
    `Tonemapper` predicts corrections.
    """
    trained = photos.trained
    errors = []
    for photo in np.flatnonzero(trained):
        others = trained.copy()
        others[photo] = False
        predicted = _from_neighbours(photos, base, moved, others)[photo]
        errors.append(predicted - photos.values[photo])
    return _Candidate(np.stack(errors), _from_neighbours(photos, base, moved, trained))


def _from_neighbours(
    photos: PhotoValues, base: np.ndarray, moved: np.ndarray, trained: np.ndarray
) -> np.ndarray:
    """Return the predictions [P, K] of `_by_neighbours` where only photos `trained` [P] are known."""
    excess = (photos.values - base)[trained].mean(0)
    if not moved.any():
        return base + excess
    centred = moved - moved[trained].mean(0)
    around = _neighbour_means(centred, photos.lens, trained)
    own, near = centred[trained], around[trained]
    factor = np.clip((own * near).sum(0) / np.maximum(np.square(near).sum(0), 1e-12), 0, 1)
    return base + excess + factor * around


def _neighbour_means(values: np.ndarray, lens: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return the mean [P, K] of the values of the trained photos before and after of the same lens; 0 without any."""
    means = np.zeros_like(values)
    for own in np.unique(lens):
        photos, known = np.flatnonzero(lens == own), np.flatnonzero((lens == own) & trained)
        if not len(known):
            continue
        before = np.searchsorted(known, photos, side="left") - 1
        after = np.searchsorted(known, photos, side="right")
        first, last = before >= 0, after < len(known)
        total = values[known[before.clip(0)]] * first[:, None]
        total += values[known[after.clip(max=len(known) - 1)]] * last[:, None]
        means[photos] = total / np.maximum(first.astype(int) + last, 1)[:, None]
    return means

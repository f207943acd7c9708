"""Colours of a scene that depend on time of day and weather: sky, light on land, haze, clouds and lamps."""

from dataclasses import dataclass

import numpy as np

from training.scenes.canvas import Colour, colour, mix
from training.scenes.labels import Accent, Scene, Season, Time, Weather


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours and intensities shared by all places; intensities are in [0, 1]."""

    sky_top: Colour
    sky_mid: Colour
    sky_low: Colour
    light: Colour  # multiplies the colour of land
    snow: Colour  # colour of snow, which stays bright when other land is dark
    haze: Colour  # colour of distant objects
    thickness: float  # how quickly objects fade to `haze` with distance
    sun: Colour
    sun_strength: float
    cloud: Colour
    lamps: float  # share of lit windows
    stars: float
    white: float  # amount of snow on the ground

    def lit(self, base: Colour, distance: float, snow: float = 0.0) -> Colour:
        """Return the land colour `base`, covered by the share `snow`, as it appears at `distance`.

        The distance is 0 for the nearest objects and 1 at the horizon.
        """
        share = 1 - (1 - distance * 0.55) * (1 - self.thickness * distance)
        return mix(mix(base * self.light, self.snow, snow), self.haze, min(share, 0.96))


@dataclass(frozen=True, slots=True)
class _Hour:
    top: Colour
    mid: Colour
    low: Colour
    light: Colour
    sun: Colour
    cloud: Colour
    lamps: float
    stars: float


_HOURS: dict[Time, _Hour] = {
    "night": _Hour(
        colour(0.02, 0.04, 0.15), colour(0.06, 0.12, 0.30), colour(0.17, 0.28, 0.52),
        colour(0.25, 0.31, 0.52), colour(0.95, 0.96, 0.88), colour(0.25, 0.31, 0.48), 0.60, 1.0,
    ),
    "dawn": _Hour(
        colour(0.50, 0.70, 0.90), colour(0.86, 0.82, 0.90), colour(1.00, 0.84, 0.70),
        colour(0.92, 0.76, 0.76), colour(1.00, 0.95, 0.72), colour(1.00, 0.88, 0.86), 0.12, 0.0,
    ),
    "day": _Hour(
        colour(0.14, 0.46, 0.90), colour(0.40, 0.71, 0.98), colour(0.80, 0.93, 1.00),
        colour(1.00, 1.00, 0.97), colour(1.00, 0.98, 0.80), colour(1.00, 1.00, 1.00), 0.0, 0.0,
    ),
    "dusk": _Hour(
        colour(0.15, 0.11, 0.35), colour(0.63, 0.23, 0.44), colour(1.00, 0.53, 0.16),
        colour(0.56, 0.36, 0.44), colour(1.00, 0.66, 0.26), colour(0.86, 0.38, 0.40), 0.40, 0.12,
    ),
}  # fmt: skip

_SEASON_COLOURS: dict[Season, tuple[Colour, ...]] = {
    "spring": (colour(0.52, 0.74, 0.28), colour(0.62, 0.80, 0.36), colour(0.96, 0.70, 0.80)),
    "autumn": (colour(0.84, 0.46, 0.12), colour(0.80, 0.30, 0.12), colour(0.88, 0.58, 0.16)),
}
_ACCENT_COLOURS: dict[Accent, Colour] = {
    "red": colour(0.78, 0.16, 0.13),
    "white": colour(0.95, 0.94, 0.90),
    "blue": colour(0.16, 0.36, 0.72),
    "yellow": colour(0.95, 0.78, 0.20),
}


def seasonal(green: Colour, season: Season, which: int, share: float = 0.75) -> Colour:
    """Return the colour of plants that are `green` in summer. `which` selects a hue; 2 is for broad-leaved trees."""
    return mix(green, _SEASON_COLOURS[season][which], share) if season in _SEASON_COLOURS else green


def accented(usual: Colour, accent: Accent) -> Colour:
    """Return the colour of an object that has the colour `usual` in scenes without an accent."""
    return _ACCENT_COLOURS.get(accent, usual)


_ORDER: tuple[Time, ...] = ("night", "dawn", "day", "dusk", "night")

_OVERCAST: dict[Weather, float] = {"clear": 0.0, "clouds": 0.15, "fog": 0.65, "rain": 0.85, "snow": 0.42}
_DECK: dict[Weather, float] = {"clear": 1.0, "clouds": 1.0, "fog": 1.02, "rain": 0.62, "snow": 1.0}
_THICK: dict[Weather, float] = {"clear": 0.0, "clouds": 0.05, "fog": 0.95, "rain": 0.35, "snow": 0.2}
_SUN: dict[Weather, float] = {"clear": 1.0, "clouds": 0.9, "fog": 0.35, "rain": 0.0, "snow": 0.5}


def _between(first: _Hour, second: _Hour, share: float) -> _Hour:
    return _Hour(
        mix(first.top, second.top, share),
        mix(first.mid, second.mid, share),
        mix(first.low, second.low, share),
        mix(first.light, second.light, share),
        mix(first.sun, second.sun, share),
        mix(first.cloud, second.cloud, share),
        first.lamps + (second.lamps - first.lamps) * share,
        first.stars + (second.stars - first.stars) * share,
    )


def palette_of(scene: Scene, shift: float) -> Palette:
    """Return the palette of a scene. `shift` in [-0.3, 0.3] blends it with that of the previous or next time of day."""
    index = _ORDER.index(scene.time) or 4 * (shift < 0)
    hour = _between(_HOURS[scene.time], _HOURS[_ORDER[index + (1 if shift >= 0 else -1)]], abs(shift))
    grey, deck = _OVERCAST[scene.weather], _DECK[scene.weather]
    mean: Colour = ((hour.top + hour.mid + 2 * hour.low) / 4).astype(np.float32)
    flat: Colour = (mix(mean, np.full(3, mean.mean(), np.float32), 0.45) * deck).astype(np.float32)
    dim = 1 - 0.35 * (scene.weather == "rain") - 0.08 * (scene.weather in ("fog", "clouds"))
    light = mix(hour.light, np.full(3, hour.light.mean(), np.float32), grey * 0.4) * np.float32(dim)
    return Palette(
        sky_top=mix(hour.top, flat * np.float32(0.85), grey),
        sky_mid=mix(hour.mid, flat, grey),
        sky_low=mix(hour.low, np.minimum(flat * np.float32(1.12), np.float32(1)), grey * 0.85),
        light=light,
        snow=mix(colour(0.97, 0.98, 1.0) * light, colour(0.86, 0.89, 1.0), 0.42),
        haze=mix(hour.low, flat, 0.35 + 0.5 * grey),
        thickness=_THICK[scene.weather],
        sun=hour.sun,
        sun_strength=_SUN[scene.weather],
        cloud=mix(hour.cloud, flat, 0.2),
        lamps=min(1.0, hour.lamps * (1.0 + 0.5 * (scene.weather in ("rain", "fog")))),
        stars=hour.stars * (1 - grey) ** 2,
        white=float(scene.weather == "snow"),
    )

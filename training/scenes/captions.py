"""Caption grammar: random English sentences that name the labels of a scene."""

from collections.abc import Mapping, Sequence

import numpy as np

from training.scenes.labels import Camera, Motion, Place, Scene, Time, Weather

MEDIA = ("photograph", "photo", "picture", "image", "illustration", "painting")

PLACE_WORDS: Mapping[Place, Sequence[str]] = {
    "mountain": (
        "a mountain",
        "a mountain landscape",
        "mountains",
        "mountain peaks",
        "a mountain range",
        "a high peak",
    ),
    "sea": ("the sea", "the ocean", "a seascape", "the open sea", "an ocean view", "the sea coast"),
    "desert": (
        "a desert",
        "the desert",
        "desert dunes",
        "sand dunes",
        "a sandy desert",
        "a desert with cacti",
    ),
    "forest": ("a forest", "the woods", "a pine forest", "a fir forest", "woodland", "a forest of conifers"),
    "city": ("a city", "a city skyline", "the city", "a skyline of towers", "skyscrapers", "a big town"),
    "field": ("a field", "fields", "farmland", "a farm", "the countryside", "a field with a barn"),
}

# A caption names the weather either by an adjective before the noun or by a phrase after it.
WEATHER_ADJECTIVES: Mapping[Weather, Sequence[str]] = {
    "clear": ("clear",),
    "clouds": ("cloudy",),
    "fog": ("foggy", "misty"),
    "rain": ("rainy",),
    "snow": ("snowy", "snow-covered", "wintry"),
}
WEATHER_PHRASES: Mapping[Weather, Sequence[str]] = {
    "clear": ("under a clear sky", "in clear weather", "with a cloudless sky"),
    "clouds": ("under clouds", "with clouds in the sky", "under a cloudy sky", "in cloudy weather"),
    "fog": ("in fog", "in the mist", "in thick fog", "in foggy weather"),
    "rain": ("in the rain", "in rainy weather", "with rain falling", "on a rainy day"),
    "snow": ("in the snow", "in snow", "with snow falling", "in winter"),
}

TIME_PHRASES: Mapping[Time, Sequence[str]] = {
    "dawn": ("at dawn", "at sunrise", "in the early morning", "at daybreak"),
    "day": ("by day", "at noon", "in daylight", "at midday", "in the daytime"),
    "dusk": ("at dusk", "at sunset", "in the evening", "at twilight"),
    "night": ("at night", "by moonlight", "in the night", "at midnight"),
}

CAMERA_WORDS: Mapping[Camera, tuple[Sequence[str], Sequence[str]]] = {
    # (adjectives before the medium, phrases after the scene)
    "wide": (("wide-angle", "wide", "panoramic"), ("wide angle", "wide shot")),
    "close": (("close-up", "telephoto", "close"), ("close up", "seen from near")),
    "aerial": (("aerial", "bird's-eye"), ("seen from above", "from a drone")),
}

MOTION_PHRASES: Mapping[Motion, Sequence[str]] = {
    "still": ("",),
    "pan": (
        "the camera panning",
        "camera panning",
        "panning to the right",
        "camera panning right",
        "the camera panning right",
    ),
    "pan_left": ("panning to the left", "camera panning left", "the camera moving left", "the camera panning left"),
    "drift": ("clouds drifting", "drifting clouds", "moving clouds", "clouds passing"),
    "sunset": ("the sun going down", "the sun sinking", "sun setting", "the sun setting"),
    "zoom": ("zooming in", "the camera moving closer", "camera zooming in", "the camera zooming in"),
    "zoom_out": ("zooming out", "the camera moving away", "camera zooming out", "the camera zooming out"),
}


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return a random caption of a scene. Clear weather and a wide camera are often left out."""
    place = _pick(rng, PLACE_WORDS[scene.place])
    time = _pick(rng, TIME_PHRASES[scene.time])
    before, weather = _weather(scene.weather, rng)
    described = _with_adjective(place, before)
    words = [described, weather, time] if rng.random() < 0.6 else [described, time, weather]
    text = " ".join(word for word in words if word)
    if rng.random() < 0.12:
        text = ", ".join(word for word in (described, weather, time) if word)
    text = _framed(text, scene.camera, rng)
    motion = _pick(rng, MOTION_PHRASES[scene.motion])
    return f"{text}, {motion}" if motion else text


def plain_caption(scene: Scene) -> str:
    """Return the first-choice caption, such as "a wide-angle photograph of a snowy mountain at dusk"."""
    described = _with_adjective(PLACE_WORDS[scene.place][0], WEATHER_ADJECTIVES[scene.weather][0])
    medium = _article(f"{CAMERA_WORDS[scene.camera][0][0]} photograph")
    return f"{medium} of {described} {TIME_PHRASES[scene.time][0]}"


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _weather(weather: Weather, rng: np.random.Generator) -> tuple[str, str]:
    """Return (adjective, phrase), one of them empty; both are empty if clear weather is left out."""
    chance = rng.random()
    if weather == "clear" and chance < 0.5:
        return "", ""
    if chance < (0.55 if weather == "clear" else 0.5):
        return _pick(rng, WEATHER_ADJECTIVES[weather]), ""
    return "", _pick(rng, WEATHER_PHRASES[weather])


def _with_adjective(place: str, adjective: str) -> str:
    """Insert an adjective after the article: "a mountain" and "snowy" become "a snowy mountain"."""
    if not adjective:
        return place
    first, _, rest = place.partition(" ")
    if first in ("a", "an"):
        return f"a {adjective} {rest}"
    return f"the {adjective} {rest}" if first == "the" else f"{adjective} {place}"


def _framed(text: str, camera: Camera, rng: np.random.Generator) -> str:
    """Add a medium ("a photograph of") and the camera to a description."""
    before, after = CAMERA_WORDS[camera]
    if camera == "wide" and rng.random() < 0.4:
        return f"{_article(_pick(rng, MEDIA))} of {text}" if rng.random() < 0.5 else text
    if rng.random() < 0.7:
        return f"{_article(_pick(rng, before) + ' ' + _pick(rng, (*MEDIA, 'view')))} of {text}"
    return f"{text}, {_pick(rng, after)}"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"

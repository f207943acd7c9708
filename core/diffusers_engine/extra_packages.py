"""Check that the packages of the optional extra `speed` are installed.

Only some switches of fast mode need these packages.
"""

import importlib.util

from codec_wire.errors import InvalidSettings
from core.setting_field import PREFIX


def require_package(package: str, setting: str, value: str) -> None:
    """Raise InvalidSettings if `package` is not installed.

    The value `value` of the setting `setting` needs this package.
    """
    if importlib.util.find_spec(package) is None:
        raise InvalidSettings(
            f"{PREFIX}{setting.upper()} (--{setting.replace('_', '-')}): the value {value} requires {package}, which "
            "is not installed. Install the extra `speed` (pip install -c constraints.txt '.[speed]'), or remove the "
            "setting"
        )

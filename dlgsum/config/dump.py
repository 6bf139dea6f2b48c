"""Settings as YAML text that is read back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf import OmegaConf


def dumped(tree: Mapping[str, Any]) -> str:
    """Return nested settings as YAML in which Korean stays readable; interpolations must be escaped already."""
    text = OmegaConf.to_yaml(OmegaConf.create(dict(tree)))
    if "\x85" not in text:
        return text
    # PyYAML 6 takes U+0085 for a letter when it chooses the quotes, and for a line break when it writes and reads.
    from omegaconf._utils import get_omega_conf_dumper

    dumper: Any = get_omega_conf_dumper()
    return str(yaml.dump(dict(tree), Dumper=dumper, allow_unicode=False, default_flow_style=False, sort_keys=False))

"""Switching a model between its base and tuned adapters of any kind, in place or in copies."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ragtune.models.adapt import find_kind, load_adapter, merge_loaded, open_changed, read_adapter_config
from ragtune.models.bottleneck import remove_bottlenecks
from ragtune.models.changed import ChangedWeights
from ragtune.models.soft import SoftPrompted


class CopySwitch:
    """For small models in float32: each adapter gets a copy of the base, kept for the next switch.

    What can be merged is: a third faster a token than PEFT's layers beside the weights, with logits equal to some 1e-5.
    """

    def __init__(self, base: Any, name: str) -> None:
        self._base, self._name = base, name
        self._copies: dict[Path, Any] = {}

    def use(self, adapter: Path | None) -> Any:
        """Return the model that answers with this adapter; None: the base."""
        if adapter is None:
            return self._base
        if adapter not in self._copies:
            if find_kind(adapter) == "soft prompt":
                self._copies[adapter] = SoftPrompted(load_adapter(self._base, adapter, self._name))
            else:
                tuned = load_adapter(copy.deepcopy(self._base), adapter, self._name)
                merged = tuned if find_kind(adapter) == "bottleneck" else merge_loaded(tuned, adapter)
                self._copies[adapter] = merged.eval()
        return self._copies[adapter]


class PlaceSwitch:
    """For large models: adapters stand beside the weights, which costs little memory and rounds nothing away.

    PEFT's of one type stay loaded together. Changed weights take the place of the base's, which wait in the CPU's memory.
    """

    def __init__(self, base: Any, name: str) -> None:
        self._base, self._name = base, name
        self._peft: Any = None
        self._names: dict[Path, str] = {}
        self._type = ""
        self._changed: ChangedWeights | None = None

    def use(self, adapter: Path | None) -> Any:
        """Return the model that answers with this adapter; None: the base."""
        self._put_back()
        if adapter is None:
            return self._peft or self._base
        kind = find_kind(adapter)
        if kind == "peft":
            return self._switch_on(adapter)
        if kind == "soft prompt":
            return SoftPrompted(load_adapter(self._base, adapter, self._name))
        self._unload()
        if kind == "weights":
            self._changed = open_changed(self._base, adapter, self._name)
            self._changed.put()
        else:
            load_adapter(self._base, adapter, self._name)
        return self._base.eval()

    def _put_back(self) -> None:
        """Leave the model as the base is."""
        if self._changed is not None:
            self._changed.take_out()
            self._changed = None
        remove_bottlenecks(self._base)
        if self._peft is not None:
            self._peft.base_model.disable_adapter_layers()

    def _switch_on(self, adapter: Path) -> Any:
        """Let PEFT's layers beside the weights speak with this adapter."""
        config = read_adapter_config(adapter)
        if self._type != config.get("peft_type"):
            self._unload()
        if adapter not in self._names:
            name = f"run{len(self._names)}"
            self._peft = load_adapter(self._peft or self._base, adapter, self._name, name)
            self._names[adapter], self._type = name, str(config.get("peft_type"))
        self._peft.base_model.enable_adapter_layers()
        self._peft.set_adapter(self._names[adapter])
        return self._peft.eval()

    def _unload(self) -> None:
        """Take PEFT's layers out of the base again."""
        if self._peft is not None:
            self._base = self._peft.unload()
        self._peft, self._names, self._type = None, {}, ""

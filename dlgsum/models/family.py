"""What differs between model architectures, as a contract that every family fulfils."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from dlgsum.config.schema.generation import Generation
from dlgsum.core import plugins
from dlgsum.core.errors import EnvironmentProblem

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast


class ModelFamily(ABC):
    """One way of turning a dialogue into a summary.

    A family holds no state and changes nothing: it answers questions about a model. Every answer is the same
    for the same model, whether it was just loaded or saved and loaded again.
    """

    name: ClassVar[str]

    @abstractmethod
    def handles(self, config: PreTrainedConfig) -> bool:
        """Say whether models with this configuration belong to the family."""

    @abstractmethod
    def default_prefix(self, config: PreTrainedConfig) -> str:
        """Return the text before each dialogue where the settings name none; empty for none."""

    @abstractmethod
    def decoder_start_id(self, model: Any, tokenizer: PreTrainedTokenizerFast, settings: Generation) -> int:
        """Return the token that starts the decoder, in training and in generation alike.

        Raises:
            EnvironmentProblem: what `generation.decoder_start` names does not exist.
        """

    @abstractmethod
    def unsafe_in_fp16(self, config: PreTrainedConfig) -> bool:
        """Say whether activations overflow in fp16, ending in NaN."""

    @abstractmethod
    def max_positions(self, config: PreTrainedConfig) -> int | None:
        """Return the longest sequence that the model can take; None when it has no fixed limit."""


def family_for(config: PreTrainedConfig) -> ModelFamily:
    """Return the family of a model.

    Raises:
        EnvironmentProblem: no family handles this architecture.
    """
    for name in plugins.names("families"):
        family: ModelFamily = plugins.load("families", name)()
        if family.handles(config):
            return family
    raise EnvironmentProblem(
        f"Models of type '{config.model_type}' are not supported",
        "Only encoder–decoder models are, such as BART (KoBART), T5 and mT5.",
    )

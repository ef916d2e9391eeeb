"""Which task a transformers model is for, and which class of its type does it."""

from collections.abc import Mapping
from typing import Any

from ramda_cli.config.suggestions import closest
from ramda_cli.errors import ModelError
from ramda_cli.tasks import (
    EMBEDDING,
    FILL_MASK,
    IMAGE_CLASSIFICATION,
    LANGUAGE_MODELING,
    MASKED_IMAGE_MODELING,
    REGRESSION,
    TEXT2TEXT_GENERATION,
    TEXT_CLASSIFICATION,
    TEXT_GENERATION,
    TEXT_TO_SPEECH,
    TOKEN_CLASSIFICATION,
    Task,
)

_TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        IMAGE_CLASSIFICATION,
        TEXT_CLASSIFICATION,
        TOKEN_CLASSIFICATION,
        TEXT_GENERATION,
        FILL_MASK,
        TEXT2TEXT_GENERATION,
        EMBEDDING,
        LANGUAGE_MODELING,
        TEXT_TO_SPEECH,
        MASKED_IMAGE_MODELING,
    )
}


def task_called(name: str) -> Task:
    """Return a task by the name that pipelines and files give it.

    Raises:
        ModelError: there is none of that name.
    """
    if name not in _TASKS:
        meant = closest(name, tuple(_TASKS))
        raise ModelError(
            f"unknown task {name!r}",
            hint=f"did you mean {meant}?" if meant else f"one of {', '.join(_TASKS)}",
        )
    return _TASKS[name]


def choose_class(config: Mapping[str, Any], task: str | None, given: str) -> tuple[str, Task]:
    """Return the class to build and its task.

    Args:
        config: of the model.
        task: what it is to do; what its architecture does when not given.
        given: the model's name, for messages.

    Raises:
        ModelError: its architecture says no task that is known here, or it cannot do the task.
    """
    kind, mappings = config.get("model_type"), _mappings()
    names = config.get("architectures")
    own = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
    if task is None:
        found = next((t for t, classes in mappings.items() if own in classes.values()), None)
        if own is None or found is None:
            able = [t for t, classes in mappings.items() if kind in classes]
            raise ModelError(
                f"{given} is a {own or kind}, which does not say what it is for",
                hint=f"name a task: {' or '.join(f'--task {t}' for t in able)}"
                if able
                else "ramda knows no task for models of this type",
            )
        return own, _variant(_TASKS[found], config)
    classes = mappings[task]
    if own in classes.values():
        return str(own), _variant(_TASKS[task], config)
    if kind not in classes:
        able = [t for t, known in mappings.items() if kind in known]
        raise ModelError(
            f"models of type {kind!r} do no {task}",
            hint=f"one of {', '.join(able)}" if able else "choose another model",
        )
    name = classes[str(kind)]
    return (name if isinstance(name, str) else name[0]), _variant(_TASKS[task], config)


def _variant(task: Task, config: Mapping[str, Any]) -> Task:
    regression = config.get("problem_type") == "regression"
    return REGRESSION if task is TEXT_CLASSIFICATION and regression else task


def _mappings() -> dict[str, Mapping[str, Any]]:
    """Return for each task the class of each model type, in the order in which they are tried."""
    from transformers.models.auto import modeling_auto as auto

    return {
        "text-classification": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "token-classification": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "text2text-generation": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        "text-generation": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "fill-mask": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        "image-classification": auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        "masked-image-modeling": auto.MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING_NAMES,
        "feature-extraction": auto.MODEL_MAPPING_NAMES,
    }

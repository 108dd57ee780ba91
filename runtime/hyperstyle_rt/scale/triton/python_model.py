"""The models of a repository that are written in Python: what their ``model.py`` imports.

Runs inside of a Triton server, whose Python environment has hyperstyle-rt without an ONNX Runtime:
the graphs are models of the server.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import HyperStyleError
from ...formats.bundle import Bundle
from ...model import Model
from .calls import ServedModel, call, served_models
from .graphs_backend import GraphModels, TritonGraphsBackend

BUNDLE, GRAPHS, SERVES = "bundle", "graphs.json", "serves"
"""In the directory of the model's version: the bundle but for its graphs, and their signatures.
The last one is a parameter of the model's configuration: one of :func:`served_models`."""

_log = logging.getLogger(__name__)


class TritonPythonModel:
    """``NAME_invert`` or ``NAME_edit``; the server calls it by the names of its methods."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle that lies beside the model.

        Parameters
        ----------
        args:
            ``model_config`` as JSON, ``model_repository``, ``model_version``,
            ``model_instance_kind``, ``model_instance_device_id``.
        """
        import triton_python_backend_utils as utils

        self._utils = utils
        place = Path(args["model_repository"]) / args["model_version"]
        config = json.loads(args["model_config"])
        self._what = str(config["parameters"][SERVES]["string_value"])
        gpu = (
            int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        )
        graphs = GraphModels.from_json((place / GRAPHS).read_text("utf-8"))
        bundle = Bundle.open(place / BUNDLE)
        self._model = Model(bundle, TritonGraphsBackend(graphs, utils, gpu))
        self._session = self._model.session()
        self._served: ServedModel = served_models(bundle.manifest)[self._what]

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, one after the other."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Close the model."""
        self._model.close()

    def _answer(self, request: Any) -> Any:
        utils = self._utils
        try:
            outputs = call(self._what, self._session, self._inputs(request))
        except HyperStyleError as error:
            return utils.InferenceResponse(error=utils.TritonError(str(error)))
        except Exception:
            _log.exception("a request failed")
            problem = utils.TritonError("the model met a fault of its own; the server's log has it")
            return utils.InferenceResponse(error=problem)
        wanted = set(request.requested_output_names())
        return utils.InferenceResponse(
            [utils.Tensor(name, array) for name, array in outputs.items() if name in wanted]
        )

    def _inputs(self, request: Any) -> dict[str, Any]:
        inputs = {}
        for each in self._served.inputs:
            tensor = self._utils.get_input_tensor_by_name(request, each.name)
            if tensor is not None:
                inputs[each.name] = tensor.as_numpy()
        return inputs

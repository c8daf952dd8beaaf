"""Errors a user can act on: each message names the thing, its value and what to do."""


class MiliError(Exception):
    """Base of all errors that are the input's or the environment's fault, not a bug."""


class ConfigError(MiliError):
    """A model configuration is missing, malformed or not supported."""


class WeightError(MiliError):
    """A checkpoint file or tensor is missing, misshaped, corrupt or of an unknown kind."""


class TokenizerError(MiliError):
    """A tokenizer is missing, malformed or does not fit the model."""


class RequestError(MiliError):
    """A request cannot be served as it is: prompt, length or sampling values."""


class ModelNotFoundError(MiliError):
    """A model name or path leads nowhere."""


class DeviceError(MiliError):
    """The asked-for device cannot be used."""


class QueueFullError(MiliError):
    """More requests wait than the engine was told to queue; try again later."""


class EngineStoppedError(MiliError):
    """The engine is draining or has stopped and takes no more requests."""

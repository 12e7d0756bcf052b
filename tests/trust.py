"""A net whose routes are taken without being held against the plain one first, for tests that count passes."""

from selfaware.models.hf import Model


class Every(dict[object, bool]):
    """Says that every route is trusted."""

    def __contains__(self, _: object) -> bool:
        return True

    def __getitem__(self, _: object) -> bool:
        return True


def trusting(model: Model) -> Model:
    model.engine.trusted = Every()
    return model

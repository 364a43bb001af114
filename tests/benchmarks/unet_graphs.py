"""The graphs that the cold start benchmark deploys: around the functions of the other arm."""

import unet_work
from pipeline import Pipeline, entity, pipe
from pipeline.objects import Graph


@entity
class Unet:
    @pipe(on_startup=True, run_once=True)
    def load(self, size: str, folder: str, mark: str) -> None:
        self.size = size
        # A constant that differs makes another deployment of it, so that each one starts cold.
        self.mark = mark
        self.unet = unet_work.load(size, folder)

    @pipe
    def use(self) -> float:
        return unet_work.use(self.size, self.unet)


def unet_graph(size: str, folder: str, mark: str) -> Graph:
    """Loads a UNet at startup; a run is one forward pass (small) or one checksum (large)."""
    with Pipeline() as builder:
        unet = Unet()
        unet.load(size, folder, mark)
        builder.output(unet.use())
    return builder.get_pipeline()

"""The item tower: one vector for an item, the same for histories and for candidates."""

import torch
from torch import Tensor, nn

from lime_model.batches import ItemInputs


class ItemTower(nn.Module):
    """Id embedding plus categorical slots plus numeric features (arXiv 2510.18239 takes items as embedded tokens)."""

    def __init__(self, id_rows: int, value_rows: int, numeric: int, width: int) -> None:
        super().__init__()
        self.ids = nn.Embedding(id_rows, width, padding_idx=0)
        self.values = nn.Embedding(value_rows, width, padding_idx=0)
        self.numeric = nn.Linear(numeric, width, bias=False) if numeric else None
        self.missing = nn.Linear(numeric, width, bias=False) if numeric else None
        for table in (self.ids, self.values):
            nn.init.normal_(table.weight, std=width**-0.5)
            nn.init.zeros_(table.weight[0].detach())

    def forward(self, items: ItemInputs) -> Tensor:
        """ItemInputs of leading shape [*] -> [*, d]."""
        vector: Tensor = self.ids(items.ids)
        # One slot after another: a sum over a strided dimension may pick its order by the batch's shape.
        for slot in range(items.categorical.shape[-1]):
            vector = vector + self.values(items.categorical[..., slot])
        if self.numeric is not None and self.missing is not None:
            vector = vector + self.numeric(items.numeric) + self.missing(items.missing)
        return vector


def replace_ids(items: ItemInputs, replaced: Tensor, bucket_rows: Tensor) -> ItemInputs:
    """Training only: ids whose row is marked in `replaced` [rows] fall to their bucket, in every place alike."""
    ids = torch.where(replaced[items.ids], bucket_rows[items.ids], items.ids)
    return ItemInputs(ids, items.categorical, items.numeric, items.missing)

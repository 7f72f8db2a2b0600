"""Grouped-query attention: several searches by query, with one key and one value for each group of them.

References: Ainslie et al. (2023), arXiv 2305.13245; one group is the multi-query attention of Shazeer (2019), arXiv
1911.02150.
"""

from __future__ import annotations

from tutelage.attention.baselines.multihead import MultiHead
from tutelage.attention.config import AttentionConfig, head_sizes
from tutelage.lab.errors import BadInput


class GroupedQuery(MultiHead):
    """S heads in R groups of neighbours; R = S is multi-head attention. The cache has R keys and values per token.

    `d_value` of the configuration is R·d_v. Raises `BadInput` where R does not divide S.
    """

    def __init__(self, config: AttentionConfig, width: int) -> None:
        heads, groups = config.searches, config.retrievals
        if heads % groups:
            divisors = ", ".join(str(each) for each in range(1, heads + 1) if heads % each == 0)
            raise BadInput(f"retrievals = {groups}: must divide searches = {heads}, so be one of {divisors}")
        super().__init__(config, width, groups=groups)

    def sizes(self, config: AttentionConfig, width: int) -> tuple[int, int]:
        return head_sizes(config, width)

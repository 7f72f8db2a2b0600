"""Grouped-query attention: several searches by query, with one key and one value for each group of them.

References: Ainslie et al. (2023), arXiv 2305.13245; one group is the multi-query attention of Shazeer (2019), arXiv
1911.02150.
"""

from __future__ import annotations

from tutelage.attention.baselines.multihead import MultiHead
from tutelage.attention.config import AttentionConfig


class GroupedQuery(MultiHead):
    """S heads in R groups of neighbours; R = S is multi-head attention. The cache has R keys and values per token.

    `d_value` of the configuration is R·d_v. Raises `BadInput` where R does not divide S.
    """

    def __init__(self, config: AttentionConfig, width: int) -> None:
        super().__init__(config, width, groups=config.retrievals)

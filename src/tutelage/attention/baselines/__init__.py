"""What compositional attention is compared with: attentions whose heads tie where to look to what to take.

Begin with `multihead`, which the others vary; `tutelage.attention.kinds` makes each by its name.
"""

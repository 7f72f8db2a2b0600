"""Language models that are somewhere else, and what stands between a caller and them.

Begin with `endpoint`, any server that speaks OpenAI's protocol (`endpoint_format` is its messages); `retry`,
`limits`, `ledger`, `cache` and `flight` are layers around any model, put together by `tutelage.lm.connecting`.
"""

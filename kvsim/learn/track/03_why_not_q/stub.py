"""03 why_not_q. The task: kvsim learn show 03. Save, and run kvsim learn run 03."""


def reads(t):
    """The rows that step t (from 1) reads to give its output: lists of row numbers (from 0) of Q, of K and of V."""
    raise NotImplementedError("write reads")

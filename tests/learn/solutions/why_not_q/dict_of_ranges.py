def reads(t):
    return {"q": {t - 1}, "k": range(t), "v": range(t)}

"""One step after another does the same: what a step of one token asks for is recorded once, and called again later.

The transformer is run on arrays that only remember what was asked of them (`recording`), with a symbol for the length
of the context (`recorder`); what it asked for becomes a list of calls on arrays that are made once (`program`);
`replays` tells which steps have a program. There is no second transformer: a program does what the one transformer
asked for, and leaves the events that it left. Results are those of steps that were not recorded, bit for bit.
"""

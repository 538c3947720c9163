"""One file for each kind of input: `valid`, an input that is accepted; `make`, one to try; `use`, which gives it to
kvsim. `NEEDS`: libraries without which its inputs are refused."""

"""Everything goes wrong, by a seed: `python -m tests.chaos --seed 7 --minutes 2`.

People write, edit, react, send files and pass some from device to device, each from a client process of their own,
while servers, clients, databases and lines are killed, cut, slowed and stopped, clocks jump and the disk fills up.
Each client writes down what it was told is safe. At the end, when all is calm again, every message is there once and
in order on every client, every file has its digest, and nothing is left over.
"""

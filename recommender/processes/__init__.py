"""The processes of a service: a supervisor starts workers, the encoder and the compactor. They share six channels.

Standard input and output, lines of JSON (orders.py). The supervisor writes an order to start to each process, later new
    settings to the workers; a process answers once, that it is ready or why it cannot be. A process whose input ends
    finishes, so none outlives its supervisor. The supervisor restarts a worker or the encoder that ends.
gRPC on an abstract Unix socket (encoding/remote.py). A worker sends texts to the encoder and gets vectors. If the
    encoder dies, gRPC makes the call again and waits for its successor, within the call's deadline.
Notify datagrams on abstract Unix sockets (serving/roster.py). A writer wakes every serving process. A lost one does no
    harm: each process also polls the store, every 50 ms.
The roster, a file of locked ranges in the data folder (serving/roster.py). Each serving process writes the revision
    that it has applied; a writer waits until all have applied its own. The system unlocks the seat of a process that
    dies, and nobody waits for it any more; one that is too slow is killed.
The change log, a table of the SQLite store (catalog/store/). Whoever writes articles appends to it, indexing jobs too;
    every serving process reads it. A change is durable before it is announced, so a reader that was away catches up.
TCP with SO_REUSEPORT (rpc/server.py). Clients call; the system spreads connections over the workers. The supervisor
    keeps the port bound; if a worker dies, its connections break, and a client that connects again gets another worker.
"""

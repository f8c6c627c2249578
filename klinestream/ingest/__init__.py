"""HTTP ingestion: klines, trades and bars that others post, into the topics, each answered when the broker has it.

```
 POST ─► gate ─► body ─► strict models ─► records ─► claim of the key ─► outlet ─► Kafka ─► read back ─► 202
         │       │       │                           │                   │
         401 403 413 415 422                         409, or the answer  429 while too many wait, 503 where it takes too long
         429                                         that was given
```

Replicas share nothing but Kafka: keys stand in a topic, and order is read back from the topics.
"""

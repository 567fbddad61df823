"""Reads a folder of events with TensorBoard's own reader and prints its scalars as JSON, one a line.

    pip install tensorboard
    python check_tensorboard.py FOLDER
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

accumulator = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0}).Reload()
for tag in sorted(accumulator.Tags()["scalars"]):
    for event in accumulator.Scalars(tag):
        print(json.dumps({"tag": tag, "step": event.step, "value": event.value, "wall_time": event.wall_time}))

"""CloudWatch Logs over the streams of tasks. Argument: the folder that holds them."""
import os
import pathlib
import sys
import urllib.parse

from common import client, equal, refused, without

logs = client("logs")
FOLDER = pathlib.Path(sys.argv[1])
OWN = "arn:aws:logs:local:000000000000:log-group:"
BEGIN = 1_763_703_600_000


def write(group, stream, number, lines):
    """Lines of milliseconds and texts, as the log driver writes them."""
    folder = FOLDER / urllib.parse.quote(group, safe="")
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"2025-11-21T05:40:{at // 1000:02}.{at % 1000:03}000000Z {line}\n" for at, line in lines)
    name = urllib.parse.quote(stream, safe="") + ".log" + (f".{number}" if number else "")
    (folder / name).write_text(text)


# Groups.
equal(logs.describe_log_groups()["logGroups"], [])
logs.create_log_group(logGroupName="/ecs/web", tags={"team": "a"})
refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName="/ecs/web")
refused("InvalidParameterException", logs.create_log_group, logGroupName="b a d")
refused("InvalidParameterException", logs.create_log_group, logGroupName="x", logGroupClass="DELIVERY", says="STANDARD")
refused("InvalidParameterException", logs.create_log_group, logGroupName="x", kmsKeyId="k", says="kmsKeyId is not supported")
shown = logs.describe_log_groups()["logGroups"]
del shown[0]["creationTime"]
equal(shown, [{
    "logGroupName": "/ecs/web", "metricFilterCount": 0, "arn": f"{OWN}/ecs/web:*", "logGroupArn": f"{OWN}/ecs/web",
    "storedBytes": 0, "logGroupClass": "STANDARD",
}])
logs.put_retention_policy(logGroupName="/ecs/web", retentionInDays=7)
equal(logs.describe_log_groups(logGroupNamePrefix="/ecs")["logGroups"][0]["retentionInDays"], 7)
logs.delete_retention_policy(logGroupName="/ecs/web")
assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]
refused("InvalidParameterException", logs.put_retention_policy, logGroupName="/ecs/web", retentionInDays=8)
refused("ResourceNotFoundException", logs.put_retention_policy, logGroupName="gone", retentionInDays=7)
refused("ResourceNotFoundException", logs.delete_retention_policy, logGroupName="gone")
equal(logs.list_tags_for_resource(resourceArn=OWN + "/ecs/web")["tags"], {"team": "a"})
logs.tag_resource(resourceArn=OWN + "/ecs/web", tags={"b": "c"})
logs.untag_resource(resourceArn=OWN + "/ecs/web", tagKeys=["team"])
equal(logs.list_tags_for_resource(resourceArn=OWN + "/ecs/web")["tags"], {"b": "c"})
equal(logs.list_tags_log_group(logGroupName="/ecs/web")["tags"], {"b": "c"})
refused("ResourceNotFoundException", logs.list_tags_for_resource, resourceArn=OWN + "gone")

# Streams: those that tasks wrote, and one of ours.
write("/ecs/web", "p/app/1", 1, [(1000, "one"), (2000, "two ERROR"), (3000, "three")])
write("/ecs/web", "p/app/1", 0, [(4000, "four"), (5000, "five ERROR"), (6000, "six")])
write("/ecs/web", "p/app/2", 0, [(2500, "other ERROR"), (4500, "more")])
write("plain", "s", 0, [(1000, "x")])
logs.create_log_stream(logGroupName="/ecs/web", logStreamName="own")
refused("ResourceAlreadyExistsException", logs.create_log_stream, logGroupName="/ecs/web", logStreamName="own")
refused("ResourceNotFoundException", logs.create_log_stream, logGroupName="gone", logStreamName="own")
pages = logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 1})
equal([one["logGroupName"] for page in pages for one in page["logGroups"]], ["/ecs/web", "plain"])
equal([one["logGroupName"] for one in logs.describe_log_groups(logGroupNamePattern="PLA")["logGroups"]], ["plain"])
refused("InvalidParameterException", logs.describe_log_groups, logGroupNamePattern="pla", logGroupNamePrefix="pla")
pages = logs.get_paginator("describe_log_streams").paginate(logGroupName="/ecs/web", PaginationConfig={"PageSize": 1})
streams = {one["logStreamName"]: one for page in pages for one in page["logStreams"]}
equal(list(streams), ["own", "p/app/1", "p/app/2"])
first = streams["p/app/1"]
equal((first["firstEventTimestamp"], first["lastEventTimestamp"]), (BEGIN + 1000, BEGIN + 6000))
equal(first["arn"], OWN + "/ecs/web:log-stream:p/app/1")
assert "firstEventTimestamp" not in streams["own"]
os.utime(FOLDER / "%2Fecs%2Fweb" / "own.log", (2e9, 2e9))
latest = logs.describe_log_streams(logGroupName="/ecs/web", orderBy="LastEventTime", descending=True, limit=1)["logStreams"]
equal([one["logStreamName"] for one in latest], ["own"])
found = logs.describe_log_streams(logGroupIdentifier=OWN + "/ecs/web", logStreamNamePrefix="p/", descending=True)["logStreams"]
equal([one["logStreamName"] for one in found], ["p/app/2", "p/app/1"])
refused("ResourceNotFoundException", logs.describe_log_streams, logGroupName="gone")
refused("InvalidParameterException", logs.describe_log_streams, logGroupName="/ecs/web", orderBy="LastEventTime", logStreamNamePrefix="p")
refused("InvalidParameterException", logs.describe_log_streams, logGroupName="/ecs/web", limit=51)

# Events of one stream.
ONE = {"logGroupName": "/ecs/web", "logStreamName": "p/app/1"}


def get(**parameters):
    answer = logs.get_log_events(**{**ONE, **parameters})
    return answer, [event["message"].split()[0] for event in answer["events"]]


answer, words = get()
equal(words, ["one", "two", "three", "four", "five", "six"])
equal(answer["events"][0], {"timestamp": BEGIN + 1000, "message": "one", "ingestionTime": BEGIN + 1000})
equal(get(limit=2)[1], ["five", "six"])
equal(get(startTime=BEGIN + 2000, endTime=BEGIN + 4000)[1], ["two", "three"])
# Forward to the end, where the token stays the same; what is written then comes behind it.
token, all_words = None, []
while True:
    more = {"nextToken": token} if token else {"startFromHead": True}
    answer, words = get(limit=4, **more)
    all_words += words
    if answer["nextForwardToken"] == token:
        break
    token = answer["nextForwardToken"]
equal(all_words, ["one", "two", "three", "four", "five", "six"])
path = FOLDER / "%2Fecs%2Fweb" / "p%2Fapp%2F1.log"
with path.open("a") as file:
    file.write("2025-11-21T05:40:07.000000000Z seven\n2025-11-21T05:40:08.0000000")
equal(get(nextToken=token)[1], ["seven"])
# Backward to the beginning.
answer, words = get(limit=4)
back = words
while True:
    answer, words = get(limit=4, nextToken=answer["nextBackwardToken"])
    if not words:
        break
    back = words + back
equal(back, [*all_words, "seven"])
refused("ResourceNotFoundException", logs.get_log_events, logGroupName="/ecs/web", logStreamName="gone")
refused("ResourceNotFoundException", logs.get_log_events, logGroupName="gone", logStreamName="gone")
refused("InvalidParameterException", logs.get_log_events, **ONE, nextToken="x/1.2")
refused("InvalidParameterException", logs.get_log_events, **ONE, limit=10001)
refused("InvalidParameterException", logs.get_log_events, logStreamName="s", says="exactly one")


# Events of a group through a filter.
def filtered(size=10000, **parameters):
    pages = logs.get_paginator("filter_log_events").paginate(
        **{"logGroupName": "/ecs/web", **parameters}, PaginationConfig={"PageSize": size})
    events = [event for page in pages for event in page["events"]]
    equal(len({event["eventId"] for event in events}), len(events))
    return [event["message"].split()[0] for event in events]


equal(filtered(), ["one", "two", "other", "three", "four", "more", "five", "six", "seven"])
for size in range(1, 10):
    equal(filtered(size, filterPattern="ERROR"), ["two", "five", "other"] if size < 3 else ["two", "other", "five"])
equal(filtered(filterPattern='ERROR -"five ERROR"'), ["two", "other"])
equal(filtered(filterPattern="?four ?more"), ["four", "more"])
equal(filtered(logStreamNames=["p/app/2"]), ["other", "more"])
equal(filtered(logStreamNamePrefix="p/app/2", startTime=BEGIN + 4000), ["more"])
refused("InvalidParameterException", logs.filter_log_events, logGroupName="/ecs/web", filterPattern="{ $.a = 1 }", says="only terms")
refused("InvalidParameterException", logs.filter_log_events, logGroupName="/ecs/web", logStreamNames=["a"], logStreamNamePrefix="a")
refused("InvalidParameterException", logs.filter_log_events, logGroupName="/ecs/web", nextToken="x")
refused("ResourceNotFoundException", logs.filter_log_events, logGroupName="gone")

# Away.
logs.delete_log_stream(logGroupName="/ecs/web", logStreamName="p/app/1")
refused("ResourceNotFoundException", logs.delete_log_stream, logGroupName="/ecs/web", logStreamName="p/app/1")
equal(sorted(entry.name for entry in path.parent.iterdir()), ["own.log", "p%2Fapp%2F2.log"])
logs.delete_log_group(logGroupName="/ecs/web")
refused("ResourceNotFoundException", logs.delete_log_group, logGroupName="/ecs/web")
equal([one["logGroupName"] for one in without(logs.describe_log_groups())["logGroups"]], ["plain"])
equal(path.parent.exists(), False)

"""What every client script needs: clients whose raw answers are held against the public models, and assertions.

A script is run with AWS_ENDPOINT_URL and keys in its environment; it ends with exit code 0 when all of it holds.
"""
import json
import time
import xml.etree.ElementTree

import boto3
import botocore.config
import botocore.exceptions

CONFIG = botocore.config.Config(
    retries={"max_attempts": 0}, inject_host_prefix=False, parameter_validation=False, connect_timeout=5, read_timeout=60
)


def client(service, validate=False, region=None):
    """A client; `validate` turns botocore's own check of parameters on."""
    config = CONFIG.merge(botocore.config.Config(parameter_validation=validate))
    made = boto3.client(service, config=config, region_name=region)
    made.meta.events.register("before-parse.*", _check)
    return made


def _check(operation_model, response_dict, **_):
    """Fails on members that the model does not have, missing required ones, other types, values outside an enum."""
    shape, status = operation_model.output_shape, response_dict["status_code"]
    if shape is None or status >= 300:
        return
    # CBOR is read by botocore alone; the endpoint holds its answers against the models itself.
    if response_dict["headers"].get("Content-Type") == "application/cbor":
        return
    protocol = operation_model.service_model.metadata["protocol"]
    body = response_dict["body"]
    problems = []
    if protocol in ("query", "ec2", "rest-xml"):
        if not body:
            return
        root = xml.etree.ElementTree.fromstring(body)
        if protocol == "query":
            wrapper = shape.serialization.get("resultWrapper")
            root = next((item for item in root if _local(item) == wrapper), None)
            if root is None:
                problems.append(f"no {wrapper}")
        if root is not None:
            _xml(shape, root, operation_model.name, problems, {"requestId"} if protocol == "ec2" else set())
    else:
        _json(shape, json.loads(body), operation_model.name, problems)
    assert not problems, "; ".join(problems)


def _local(element):
    return element.tag.rsplit("}", 1)[-1]


def _json(shape, value, path, problems):
    kinds = {
        "structure": dict, "map": dict, "list": list, "string": str, "blob": str, "boolean": bool, "integer": int,
        "long": int, "timestamp": (int, float), "double": (int, float), "float": (int, float),
    }
    if not isinstance(value, kinds[shape.type_name]):
        problems.append(f"{path}: {value!r} is no {shape.name}")
    elif shape.type_name == "structure":
        names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        problems.extend(f"{path}.{name}: no member of {shape.name}" for name in value if name not in names)
        for name in shape.required_members:
            if shape.members[name].serialization.get("name", name) not in value:
                problems.append(f"{path}.{name}: missing")
        for name, item in value.items():
            if name in names:
                _json(shape.members[names[name]], item, f"{path}.{name}", problems)
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            _json(shape.member, item, f"{path}[{index}]", problems)
    elif shape.type_name == "map":
        for name, item in value.items():
            _json(shape.value, item, f"{path}.{name}", problems)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        problems.append(f"{path}: {value!r} is no {shape.name}")


def _xml(shape, element, path, problems, known=frozenset()):
    text = element.text or ""
    if shape.type_name == "structure":
        members = {
            member.serialization.get("name", name): (name, member)
            for name, member in shape.members.items()
            if member.serialization.get("location") in (None, "")
        }
        seen = set()
        for item in element:
            name = _local(item)
            if name not in members:
                if name not in known:
                    problems.append(f"{path}.{name}: no member of {shape.name}")
                continue
            own, member = members[name]
            seen.add(own)
            if member.type_name == "list" and member.serialization.get("flattened"):
                member = member.member
            _xml(member, item, f"{path}.{name}", problems)
        for name in shape.required_members:
            here = shape.members[name].serialization.get("location") in (None, "")
            if here and name not in seen:
                problems.append(f"{path}.{name}: missing")
    elif shape.type_name == "list":
        wanted = shape.member.serialization.get("name", "member")
        for index, item in enumerate(element):
            if _local(item) != wanted:
                problems.append(f"{path}[{index}]: {_local(item)} instead of {wanted}")
            _xml(shape.member, item, f"{path}[{index}]", problems)
    elif shape.type_name == "map":
        for item in element:
            if _local(item) != "entry":
                problems.append(f"{path}: {_local(item)} instead of entry")
    elif shape.type_name in ("integer", "long"):
        int(text)
    elif shape.type_name in ("double", "float"):
        float(text)
    elif shape.type_name == "boolean":
        if text not in ("true", "false"):
            problems.append(f"{path}: {text!r} is no boolean")
    elif getattr(shape, "enum", None) and text not in shape.enum:
        problems.append(f"{path}: {text!r} is no {shape.name}")


def refused(code, function, *arguments, says=None, **parameters):
    """The call is refused with this code; returns the message."""
    try:
        answer = function(*arguments, **parameters)
    except botocore.exceptions.ClientError as error:
        found, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        assert found == code, f"{found} ({message}) instead of {code}"
        assert says is None or says in message, f"{message!r} does not say {says!r}"
        return message
    raise AssertionError(f"not refused with {code}: {answer}")


def equal(found, expected):
    assert found == expected, f"\n{json.dumps(found, default=str, indent=1)}\ninstead of\n{json.dumps(expected, default=str, indent=1)}"


def eventually(condition, what, seconds=60):
    """Asks until it holds; returns what held."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def without(answer):
    """An answer without what only boto3 adds."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

//! The three-way merge of one row: what the file says now, what it said last, what the State has.
//!
//! Works on the rows' JSON form, member by member; rules and weights of an action are members of
//! their own, so a weight set elsewhere outlives a change of another rule. Pure. **Invariant:** a
//! member that the file did not change keeps the State's value.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// `row` as the file writes it: without the members that are not the file's.
pub(super) fn written<T: Serialize>(row: &T, ours: &[&str]) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(row)?;
    if let Value::Object(members) = &mut value {
        members.retain(|name, _| !ours.contains(&name.as_str()));
    }
    Ok(value)
}

/// `current` with everything in `file` that is not in `base`.
pub(super) fn merge<T: Serialize + DeserializeOwned>(
    base: Option<&Value>,
    file: &Value,
    current: &T,
) -> Result<T, serde_json::Error> {
    let mut merged = serde_json::to_value(current)?;
    if let (Value::Object(merged), Value::Object(file)) = (&mut merged, file) {
        for (name, value) in file {
            let old = base.and_then(|base| base.get(name));
            let new = member(name, old, value, merged.get(name));
            merged.insert(name.clone(), new);
        }
    }
    serde_json::from_value(merged)
}

fn member(name: &str, base: Option<&Value>, file: &Value, current: Option<&Value>) -> Value {
    let (Some(base), Some(current)) = (base, current) else { return file.clone() };
    if base == file {
        return current.clone();
    }
    match name {
        "rules" => list(base, file, current, "priority", &rule),
        "action" | "default_action" => action(base, file, current),
        _ => file.clone(),
    }
}

fn action(base: &Value, file: &Value, current: &Value) -> Value {
    let groups = |action: &Value| action.get("Forward").cloned();
    match (groups(base), groups(file), groups(current)) {
        (Some(base), Some(file), Some(current)) => {
            let groups = list(&base, &file, &current, "group", &|_, file, _| file.clone());
            Value::Object(Map::from_iter([("Forward".to_owned(), groups)]))
        }
        _ => file.clone(),
    }
}

fn rule(base: &Value, file: &Value, current: &Value) -> Value {
    let mut merged = current.clone();
    if let (Value::Object(merged), Value::Object(file)) = (&mut merged, file) {
        for (name, value) in file {
            let new = member(name, base.get(name), value, current.get(name));
            merged.insert(name.clone(), new);
        }
    }
    merged
}

/// Merges lists whose elements are known by `key`: the file's elements in the file's order, each
/// as `changed` makes it where the file changed it.
fn list(
    base: &Value,
    file: &Value,
    current: &Value,
    key: &str,
    changed: &dyn Fn(&Value, &Value, &Value) -> Value,
) -> Value {
    let find = |list: &Value, element: &Value| -> Option<Value> {
        list.as_array()?.iter().find(|other| other.get(key) == element.get(key)).cloned()
    };
    let merged = |element: &Value| match (find(base, element), find(current, element)) {
        (Some(old), Some(current)) if old == *element => current,
        (Some(old), Some(current)) => changed(&old, element, &current),
        _ => element.clone(),
    };
    Value::Array(file.as_array().into_iter().flatten().map(merged).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(base: Value, file: Value, current: Value, expected: Value) {
        assert_eq!(merge(Some(&base), &file, &current).unwrap(), expected);
    }

    #[test]
    fn only_what_the_file_changed_is_written() {
        let base = json!({"count": 3, "max": 200});
        check(base.clone(), base.clone(), json!({"count": 7, "max": 200, "at": 1}), {
            json!({"count": 7, "max": 200, "at": 1})
        });
        let file = json!({"count": 3, "max": 150});
        check(base.clone(), file, json!({"count": 7, "max": 200}), json!({"count": 7, "max": 150}));
        let file = json!({"count": 4, "max": 200});
        check(base, file, json!({"count": 7, "max": 200}), json!({"count": 4, "max": 200}));
    }

    #[test]
    fn without_a_base_the_file_wins() {
        let merged = merge(None, &json!({"count": 3}), &json!({"count": 7, "at": 1})).unwrap();
        assert_eq!(merged, json!({"count": 3, "at": 1}));
    }

    fn forward(a: u32, b: u32) -> Value {
        json!({"Forward": [{"group": "a", "weight": a}, {"group": "b", "weight": b}]})
    }

    #[test]
    fn weights_set_elsewhere_outlive_other_edits() {
        let listener = |action: Value, path: &str| {
            json!({"default_action": action.clone(), "rules": [
                {"id": "x", "priority": 1, "conditions": path, "action": action},
                {"id": "y", "priority": 2, "conditions": path, "action": {"FixedResponse": {}}},
            ]})
        };
        let (base, current) = (listener(forward(1, 1), "/a"), listener(forward(9, 1), "/a"));
        check(
            base.clone(),
            listener(forward(1, 1), "/b"),
            current.clone(),
            listener(forward(9, 1), "/b"),
        );
        check(
            base.clone(),
            listener(forward(1, 5), "/a"),
            current.clone(),
            listener(forward(9, 5), "/a"),
        );
        let fixed = json!({"FixedResponse": {"status": 200}});
        check(base, listener(fixed.clone(), "/a"), current, listener(fixed, "/a"));
    }

    #[test]
    fn rules_and_groups_come_and_go_with_the_file() {
        let rule = |priority: u32, weight: u32| {
            let action = forward(weight, 1);
            json!({ "priority": priority, "action": action })
        };
        check(
            json!({"rules": [rule(1, 1), rule(2, 1)]}),
            json!({"rules": [rule(2, 1), rule(3, 1)]}),
            json!({"rules": [rule(1, 4), rule(2, 4)]}),
            json!({"rules": [rule(2, 4), rule(3, 1)]}),
        );
    }
}

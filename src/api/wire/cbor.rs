//! CBOR (RFC 8949): the bodies of Smithy's RPC v2 protocol.
//!
//! Reading makes the JSON wire's document of it, which is checked like every other: bytes become
//! base64, times (tag 1) seconds since 1970. Writing follows the model. Source: Smithy, "RPC v2
//! CBOR protocol". **Invariant:** what a body can make this allocate grows with the body, not with
//! the lengths that it tells.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minicbor::data::Type;
use minicbor::decode::Error;
use minicbor::{Decoder, Encoder};
use serde_json::{Map, Number, Value};

use super::check::Invalid;
use super::schema::{Kind, Model, ShapeId};

/// Deeper values are refused (ours; the deepest of the models is eight).
const DEPTH: usize = 32;
/// Seconds since 1970 (RFC 8949, 3.4.2).
const EPOCH: u64 = 1;

/// The document of a body.
///
/// # Errors
/// It is not one value in CBOR that JSON has a form for.
pub(crate) fn decode(body: &[u8]) -> Result<Value, Invalid> {
    let bad = |why: &dyn std::fmt::Display| Invalid::Type(format!("the body is no CBOR: {why}"));
    let mut decoder = Decoder::new(body);
    let decoded = value(&mut decoder, 0).map_err(|error| bad(&error))?;
    if decoder.position() < body.len() {
        return Err(bad(&"something follows its value"));
    }
    Ok(decoded)
}

fn value(from: &mut Decoder<'_>, depth: usize) -> Result<Value, Error> {
    if depth == DEPTH {
        return Err(Error::message("too deep"));
    }
    let float = |number: f64| {
        Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| Error::message("no finite number"))
    };
    Ok(match from.datatype()? {
        Type::Bool => from.bool()?.into(),
        Type::Null => from.null().map(|()| Value::Null)?,
        Type::Undefined => from.undefined().map(|()| Value::Null)?,
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => from.u64()?.into(),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => from.i64()?.into(),
        Type::F16 => float(from.f16()?.into())?,
        Type::F32 => float(from.f32()?.into())?,
        Type::F64 => float(from.f64()?)?,
        Type::Bytes | Type::BytesIndef => {
            let parts = from.bytes_iter()?.collect::<Result<Vec<_>, _>>()?;
            STANDARD.encode(parts.concat()).into()
        }
        Type::String | Type::StringIndef => text(from)?.into(),
        Type::Array | Type::ArrayIndef => {
            let mut left = from.array()?;
            let mut items = Vec::new();
            while more(from, &mut left)? {
                items.push(value(from, depth + 1)?);
            }
            items.into()
        }
        Type::Map | Type::MapIndef => {
            let mut left = from.map()?;
            let mut members = Map::new();
            while more(from, &mut left)? {
                let name = text(from)?;
                members.insert(name, value(from, depth + 1)?);
            }
            members.into()
        }
        Type::Tag => match from.tag()?.as_u64() {
            EPOCH => match value(from, depth + 1)? {
                number @ Value::Number(_) => number,
                _ => return Err(Error::message("a time that is no number")),
            },
            _ => return Err(Error::message("an unknown tag")),
        },
        other => return Err(Error::message(format!("an unknown type: {other}"))),
    })
}

fn text(from: &mut Decoder<'_>) -> Result<String, Error> {
    from.str_iter()?.collect::<Result<String, _>>()
}

/// Whether a list or a map goes on; `left` is unknown in one that ends with a break.
fn more(from: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, Error> {
    match left {
        Some(0) => Ok(false),
        Some(left) => {
            *left -= 1;
            Ok(true)
        }
        None if from.datatype()? == Type::Break => {
            from.set_position(from.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

/// A document of a shape as a body; members without a value are left out.
pub(crate) fn encode(model: &Model, shape: ShapeId, document: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    match write(&mut encoder, model, shape, document) {
        Ok(()) => {}
        // Writing to a vector cannot fail.
        Err(error) => tracing::error!(%error, "an answer is not written"),
    }
    encoder.into_writer()
}

type Failed = minicbor::encode::Error<std::convert::Infallible>;

fn write(
    to: &mut Encoder<Vec<u8>>,
    model: &Model,
    id: ShapeId,
    value: &Value,
) -> Result<(), Failed> {
    match (&model.shape(id).kind, value) {
        (Kind::Structure(members), Value::Object(map)) => {
            let full = |name: &str| map.get(name).filter(|value| !value.is_null());
            let full = members.iter().filter_map(|member| Some((member, full(&member.name)?)));
            to.map(full.clone().count() as u64)?;
            for (member, value) in full {
                to.str(&member.name)?;
                write(to, model, member.shape, value)?;
            }
        }
        (Kind::List { item, .. }, Value::Array(items)) => {
            to.array(items.len() as u64)?;
            items.iter().try_for_each(|value| write(to, model, item.shape, value))?;
        }
        (Kind::Map { value: of, .. }, Value::Object(map)) => {
            to.map(map.len() as u64)?;
            for (name, value) in map {
                to.str(name)?;
                write(to, model, of.shape, value)?;
            }
        }
        (Kind::Time, Value::Number(number)) => {
            to.tag(minicbor::data::Tag::new(EPOCH))?;
            to.f64(number.as_f64().unwrap_or_default())?;
        }
        (Kind::Blob, Value::String(text)) => {
            to.bytes(&STANDARD.decode(text).unwrap_or_default())?;
        }
        (Kind::Float, Value::Number(number)) => {
            to.f64(number.as_f64().unwrap_or_default())?;
        }
        (_, value) => plain(to, value)?,
    }
    Ok(())
}

/// A scalar whose shape needs no special form.
fn plain(to: &mut Encoder<Vec<u8>>, value: &Value) -> Result<(), Failed> {
    match value {
        Value::Bool(value) => to.bool(*value)?,
        Value::Number(number) => match number.as_i64() {
            Some(number) => to.i64(number)?,
            None => to.f64(number.as_f64().unwrap_or_default())?,
        },
        Value::String(text) => to.str(text)?,
        Value::Null | Value::Array(_) | Value::Object(_) => to.null()?,
    };
    Ok(())
}

/// The body of a refusal: texts by name.
pub(crate) fn texts(members: &[(&str, &str)]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    let mut all = || {
        encoder.map(members.len() as u64)?;
        for (name, text) in members {
            encoder.str(name)?.str(text)?;
        }
        Ok::<_, Failed>(())
    };
    if let Err(error) = all() {
        tracing::error!(%error, "a refusal is not written");
    }
    encoder.into_writer()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Bytes as RFC 8949 writes them in its examples.
    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        let byte =
            |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn values_of_the_rfc_are_read() {
        let check = |hex: &str, expected: Value| {
            assert_eq!(decode(&bytes(hex)), Ok(expected), "{hex}");
        };
        check("00", json!(0));
        check("1b 000000e8d4a51000", json!(1_000_000_000_000_u64));
        check("39 03e7", json!(-1000));
        check("f9 3e00", json!(1.5));
        check("fa 47c35000", json!(100_000.0));
        check("fb 3ff199999999999a", json!(1.1));
        check("f4", json!(false));
        check("f6", json!(null));
        check("c1 1a 514b67b0", json!(1_363_896_240));
        check("c1 fb 41d452d9ec200000", json!(1_363_896_240.5));
        check("44 01020304", json!("AQIDBA=="));
        check("5f 42 0102 43 030405 ff", json!("AQIDBAU="));
        check("62 c3bc", json!("ü"));
        check("7f 65 7374726561 64 6d696e67 ff", json!("streaming"));
        check("83 01 82 02 03 82 04 05", json!([1, [2, 3], [4, 5]]));
        check("9f 01 82 02 03 9f 04 05 ff ff", json!([1, [2, 3], [4, 5]]));
        check("a2 61 61 01 61 62 82 02 03", json!({"a": 1, "b": [2, 3]}));
        check("bf 63 46756e f5 63 416d74 21 ff", json!({"Fun": true, "Amt": -2}));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = format!("{} 00", "81".repeat(40));
        for hex in [
            "",
            "01 02",
            "19 03",
            "9b ffffffffffffffff 01",
            "bb ffffffffffffffff",
            "a1 01 02",
            "ff",
            "9f 01",
            "f9 7e00",
            "c0 60",
            "c1 60",
            "62 ff00",
            "f8 20",
            &deep,
        ] {
            let found = decode(&bytes(hex)).unwrap_err().to_string();
            assert!(found.starts_with("the body is no CBOR"), "{hex}: {found}");
        }
    }

    #[test]
    fn answers_follow_their_model() {
        let model = Model::parse(
            r#"{"metadata": {"apiVersion": "1", "protocol": "smithy-rpc-v2-cbor"}, "operations": {},
                "shapes": {
                "S": {"type": "structure", "members": {"a": {"shape": "T"}, "b": {"shape": "B"},
                    "c": {"shape": "F"}, "d": {"shape": "L"}, "e": {"shape": "M"}, "f": {"shape": "I"}}},
                "T": {"type": "timestamp"}, "B": {"type": "blob"}, "F": {"type": "double"},
                "L": {"type": "list", "member": {"shape": "S"}}, "I": {"type": "integer"},
                "M": {"type": "map", "key": {"shape": "K"}, "value": {"shape": "X"}},
                "K": {"type": "string"}, "X": {"type": "boolean"}}}"#,
        )
        .unwrap();
        let shape = model.shape_named("S").unwrap();
        let check = |document: Value, hex: &str| {
            assert_eq!(encode(&model, shape, &document), bytes(hex), "{document}");
        };
        check(json!({}), "a0");
        check(json!({"a": null, "f": -2}), "a1 61 66 21");
        check(json!({"a": 1_363_896_240.5}), "a1 61 61 c1 fb 41d452d9ec200000");
        check(json!({"b": "AQIDBA=="}), "a1 61 62 44 01020304");
        check(json!({"c": 1}), "a1 61 63 fb 3ff0000000000000");
        check(json!({"d": [{}, {"f": 1}]}), "a1 61 64 82 a0 a1 61 66 01");
        check(json!({"e": {"x": true}}), "a1 61 65 a1 61 78 f5");
        assert_eq!(texts(&[("a", "b")]), bytes("a1 61 61 61 62"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&body);
        }
    }
}

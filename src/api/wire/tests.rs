//! The wires against a small model that has one of everything.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::check::{self, Invalid};
use super::query;
use super::schema::{Kind, Model};
use super::xml::{self, Writer};

const MODEL: &str = r#"{
"metadata":{"protocol":"query","apiVersion":"1"},
"operations":{"Make":{"http":{"method":"POST","requestUri":"/"},"input":{"shape":"In"},
  "output":{"shape":"In","resultWrapper":"MakeResult"},"errors":["Gone"]}},
"shapes":{
"In":{"type":"structure","required":["Name"],"members":{
  "Name":{"shape":"Name"},"Count":{"shape":"Count"},"On":{"shape":"Bool"},"At":{"shape":"Time"},
  "Kind":{"shape":"Kind"},"Items":{"shape":"Items"},"Flat":{"shape":"Flat","locationName":"F"},
  "Map":{"shape":"Map"},"Wide":{"shape":"Double"},"Inner":{"shape":"Inner"}}},
"Name":{"type":"string","min":2,"max":5,"pattern":"[a-z]*"},
"Count":{"type":"integer","min":1,"max":9},
"Bool":{"type":"boolean"},"Time":{"type":"timestamp"},"Double":{"type":"double"},
"Kind":{"type":"string","enum":["a","b"]},
"Items":{"type":"list","member":{"shape":"Inner"},"max":2},
"Flat":{"type":"list","member":{"shape":"Text"},"flattened":true},
"Map":{"type":"map","key":{"shape":"Text"},"value":{"shape":"Count"}},
"Inner":{"type":"structure","members":{"Text":{"shape":"Text","queryName":"T"}}},
"Text":{"type":"string"},
"Gone":{"type":"structure","members":{},"error":{"code":"NotThere","httpStatusCode":404},"exception":true}
}}"#;

fn model() -> Model {
    Model::parse(MODEL).unwrap()
}

/// A form, and what it becomes or is refused with.
fn form(text: &str, expected: &str) {
    let model = model();
    let shape = model.operation("Make").unwrap().input.unwrap();
    let decoded = query::decode(&model, shape, query::pairs(text), false)
        .and_then(|value| check::input(&model, shape, value));
    let shown = decoded.map_or_else(|invalid| invalid.to_string(), |value| value.to_string());
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn forms_become_documents() {
    form("Name=ab", r#"{"Name":"ab"}"#);
    form("Name=ab&Action=Make&Unknown.1=x", r#"{"Name":"ab"}"#);
    form(
        "Name=ab&Count=3&On=true&At=1970-01-01T00%3A00%3A01Z&Kind=a&Wide=0.5",
        r#"{"At":1.0,"Count":3,"Kind":"a","Name":"ab","On":true,"Wide":0.5}"#,
    );
    form(
        "Items.member.10.Text=b&Items.member.2.Text=a+%2B&Name=ab",
        r#"{"Items":[{"Text":"a +"},{"Text":"b"}],"Name":"ab"}"#,
    );
    form("F.1=a&F.2=b&Name=ab", r#"{"Flat":["a","b"],"Name":"ab"}"#);
    form("Items=&Name=ab", r#"{"Items":[],"Name":"ab"}"#);
    form("Map.entry.1.key=x&Map.entry.1.value=4&Name=ab", r#"{"Map":{"x":4},"Name":"ab"}"#);
}

#[test]
fn forms_that_break_the_model_are_told_in_awss_words() {
    let constraint = |value: &str, path: &str, rule: &str| {
        format!(
            "1 validation error detected: Value {value} at '{path}' failed to satisfy \
             constraint: Member must {rule}"
        )
    };
    form("", &constraint("null", "name", "not be null"));
    form("Name=a", &constraint("'a'", "name", "have length greater than or equal to 2"));
    form("Name=abcdef", &constraint("'abcdef'", "name", "have length less than or equal to 5"));
    let pattern = "satisfy regular expression pattern: [a-z]*";
    form("Name=AB", &constraint("'AB'", "name", pattern));
    form("Name=ab&Kind=c", &constraint("'c'", "kind", "satisfy enum value set: [a, b]"));
    let count = "have value less than or equal to 9";
    form("Name=ab&Count=10", &constraint("'10'", "count", count));
    form("Name=ab&Count=x", "Count must be a whole number, not \"x\"");
    form("Name=ab&On=maybe", "On must be true or false, not \"maybe\"");
    form("Name=ab&At=soon", "at must be a time, not a string");
    let text = "Name=ab&Items.member.1.Text=a&Items.member.2.Text=b&Items.member.3.Text=c";
    let items = r#"'[{"Text":"a"}, {"Text":"b"}, {"Text":"c"}]'"#;
    form(text, &constraint(items, "items", "have length less than or equal to 2"));
    let both = "2 validation errors detected: Value '0' at 'count' failed to satisfy constraint: \
                Member must have value greater than or equal to 1; Value null at 'name' failed \
                to satisfy constraint: Member must not be null";
    form("Count=0", both);
}

#[test]
fn documents_lose_what_the_model_does_not_have() {
    let model = model();
    let shape = model.operation("Make").unwrap().input.unwrap();
    let given = json!({"Name": "ab", "Other": 1, "Kind": null, "Inner": {"Text": "x", "No": []}});
    let checked = check::input(&model, shape, given).unwrap();
    assert_eq!(checked, json!({"Name": "ab", "Inner": {"Text": "x"}}));
    let wrong = check::input(&model, shape, json!({"Name": ["ab"]})).unwrap_err();
    assert_eq!(wrong, Invalid::Type("name must be a string, not a list".to_owned()));
}

#[test]
fn answers_are_held_against_the_model() {
    let model = model();
    let shape = model.operation("Make").unwrap().output.unwrap();
    let check = |value: Value, expected: &[&str]| {
        assert_eq!(check::output(&model, shape, &value), expected, "{value}");
    };
    check(json!({"Name": "ab", "At": 1.5}), &[]);
    check(json!({"Kind": "c"}), &[".Kind: \"c\" is no Kind", ".Name: missing"]);
    check(json!({"Name": 1, "No": 1}), &[".No: no member of In", ".Name: a number is no Name"]);
}

#[test]
fn answers_are_written_as_xml_and_read_back() {
    let model = model();
    let operation = model.operation("Make").unwrap();
    let given = json!({
        "Name": "a<b", "Count": 3, "On": true, "At": 1.0, "Items": [{"Text": "x"}, {}],
        "Flat": ["p", "q"], "Map": {"k": 4}, "Kind": null,
    });
    let mut writer = Writer::new();
    writer.open("MakeResult", Some("http://example"));
    writer.members(&model, model.shape(operation.output.unwrap()), &given);
    writer.close("MakeResult");
    let text = writer.finish();
    let (_, body) = text.split_once('\n').unwrap();
    assert_eq!(
        body,
        "<MakeResult xmlns=\"http://example\"><At>1970-01-01T00:00:01.000Z</At><Count>3</Count>\
         <F>p</F><F>q</F><Items><member><Text>x</Text></member><member></member></Items>\
         <Map><entry><key>k</key><value>4</value></entry></Map><Name>a&lt;b</Name><On>true</On>\
         </MakeResult>"
    );
    let read = xml::decode(&model, operation.input.unwrap(), &text).unwrap();
    assert_eq!(read["Name"], "a<b");
    assert_eq!(read["Items"], json!([{"Text": "x"}, {}]));
    assert_eq!(read["Flat"], json!(["p", "q"]));
    assert_eq!(read["Map"], json!({"k": 4}));
}

#[test]
fn errors_are_found_by_shape_and_by_code() {
    let model = model();
    assert_eq!(model.error("Gone"), Some(("NotThere", 404)));
    assert_eq!(model.error("NotThere"), Some(("NotThere", 404)));
    assert_eq!(model.error("In"), None);
}

#[test]
fn every_model_loads_and_its_patterns_are_known() {
    for (name, text) in crate::api::services::MODELS {
        let model = Model::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(model.operations().count() > 0, "{name}");
        for operation in model.operations() {
            for id in [operation.input, operation.output].into_iter().flatten() {
                let shape = model.shape(id);
                assert!(matches!(shape.kind, Kind::Structure(_)), "{name}.{}", shape.name);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_form_makes_the_decoder_panic(text in "[A-Za-z.0-9=&%+]{0,80}") {
        let model = model();
        let shape = model.operation("Make").unwrap().input.unwrap();
        if let Ok(value) = query::decode(&model, shape, query::pairs(&text), false) {
            let _ = check::input(&model, shape, value);
        }
    }

    #[test]
    fn percent_encoding_comes_back(text in ".{0,40}") {
        let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
        prop_assert_eq!(query::plain(&encoded), text);
    }
}

//! `roadstead explain`: asks a running `serve` what it would do with a request, and why.

use std::net::IpAddr;

use anyhow::Context as _;
use clap::Args;

use super::Place;
use super::status::{ask, table};
use crate::api::explain::Question;
use crate::routing::{Explanation, GroupNote, TargetNote};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Which listener it comes to, as LOAD_BALANCER:PORT; else the one at the URL's port.
    #[arg(long, value_name = "LISTENER", conflicts_with = "log")]
    listener: Option<String>,
    #[arg(long, value_name = "METHOD", default_value = "GET", conflicts_with = "log")]
    method: String,
    /// A header, as "Name: value"; as often as needed.
    #[arg(long, short = 'H', value_name = "HEADER", value_parser = header, conflicts_with = "log")]
    header: Vec<(String, String)>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", conflicts_with = "log")]
    source: IpAddr,
    /// A line of the access log, in place of a URL; - reads it from standard input.
    #[arg(long, value_name = "LINE", required_unless_present = "url")]
    log: Option<String>,
    /// What is asked for, such as http://example.com:8080/path.
    #[arg(value_name = "URL", conflicts_with = "log")]
    url: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("it is no header such as \"Name: value\"")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let question = match (&options.log, &options.url) {
        (Some(line), _) if line == "-" => {
            Question::of_line(&std::io::read_to_string(std::io::stdin())?)?
        }
        (Some(line), _) => Question::of_line(line)?,
        (None, url) => Question {
            listener: options.listener.clone(),
            method: options.method.clone(),
            url: url.clone().unwrap_or_default(),
            headers: options.header.clone(),
            source: options.source,
        },
    };
    let text = ask(&options.place, &serde_json::to_string(&question)?)?;
    let answer: Result<Explanation, String> =
        serde_json::from_str(&text).context("an answer of another version")?;
    let explanation = answer.map_err(anyhow::Error::msg)?;
    if options.json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&explanation)?));
        return Ok(());
    }
    let mut text = format!(
        "{} {} from {} to {}\n",
        question.method, question.url, question.source, explanation.listener
    );
    if options.log.is_some() {
        text += "of its headers the log has Host and User-Agent alone\n";
    }
    super::print(&(text + &render(&explanation)));
    Ok(())
}

fn render(explanation: &Explanation) -> String {
    let rules = explanation.rules.iter().map(|rule| {
        let name = match rule.priority {
            0 => "default".to_owned(),
            priority => priority.to_string(),
        };
        vec![mark(Some(rule.taken)), name, rule.why.clone()]
    });
    let mut text = table(&["", "RULE", "WHY"], rules);
    text.push('\n');
    for check in &explanation.checks {
        text += &format!("before: {check}\n");
    }
    text += &format!("action: {}\n", explanation.action);
    if let Some(rewritten) = &explanation.rewritten {
        text += &format!("rewritten: {rewritten}\n");
    }
    if explanation.groups.is_empty() {
        return text;
    }
    let group = |own: &GroupNote| vec![mark(own.taken), own.target_group.clone(), own.why.clone()];
    text += &table(&["", "TARGET GROUP", "WHY"], explanation.groups.iter().map(group));
    let of_group = |group: &GroupNote| {
        let name = group.target_group.clone();
        let row = move |target: &TargetNote| {
            vec![mark(target.taken), name.clone(), target.target.clone(), target.why.clone()]
        };
        group.targets.iter().map(row).collect::<Vec<_>>()
    };
    let targets = explanation.groups.iter().flat_map(of_group);
    text + &table(&["", "TARGET GROUP", "TARGET", "WHY"], targets)
}

/// Taken, not taken, or left to chance.
fn mark(taken: Option<bool>) -> String {
    match taken {
        Some(true) => "->".to_owned(),
        Some(false) => String::new(),
        None => "?".to_owned(),
    }
}

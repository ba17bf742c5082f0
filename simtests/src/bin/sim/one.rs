//! Commands about one run.

use super::arguments::Arguments;
use super::{planted, say};
use raftkv_sim::world::Story;
use raftkv_sim::world::options::Options;
use simtests::picture::{self, Window};
use simtests::{Verdict, run_options, settings, shrink as shrinking};
use std::fs;

/// What the arguments stand for: the seed's options, changed as told.
fn options_of(arguments: &Arguments) -> Result<Options, String> {
    planted::plant(arguments)?;
    let drawn = Options::draw(arguments.required("--seed")?);
    let mut options = Options { ring: arguments.ring()?, ..drawn };
    for words in arguments.texts("--set") {
        settings::change(&mut options, words)?;
    }
    Ok(options)
}

/// `sim options`
pub fn options(arguments: &Arguments) -> Result<bool, String> {
    say(&format!("{:#?}", options_of(arguments)?));
    Ok(true)
}

/// `sim run`
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let story = arguments.has("--trace").then(Story::default);
    let Verdict { report, failure, .. } = run_options(options_of(arguments)?, story.clone());
    if let Some(story) = story {
        say(story.borrow().trim_end());
    }
    if let Some(report) = report {
        say(&format!("{report:#?}"));
    }
    say(&failure.as_ref().map_or("passed".into(), |failure| format!("FAILED: {failure}")));
    Ok(failure.is_none())
}

/// `sim draw`
pub fn draw(arguments: &Arguments) -> Result<bool, String> {
    let file = arguments.text("-o")?.ok_or("-o is missing: which file to draw into")?.to_owned();
    let window = Window {
        from_ms: arguments.number("--from")?.unwrap_or(0),
        to_ms: arguments.number("--to")?.unwrap_or(u64::MAX),
        everything: arguments.has("--everything"),
    };
    let story = Story::default();
    run_options(options_of(arguments)?, Some(story.clone()));
    let svg = picture::draw(&story.borrow(), window)?;
    fs::write(&file, svg).map_err(|error| format!("{file}: {error}"))?;
    Ok(true)
}

/// `sim shrink`
pub fn shrink(arguments: &Arguments) -> Result<bool, String> {
    let options = options_of(arguments)?;
    std::panic::set_hook(Box::new(|_| {}));
    let shrunk = shrinking::shrink(options.clone(), |shrunk| {
        let events = shrunk.events.map_or("a panic".into(), |events| format!("{events} events"));
        eprintln!("{events} after {} runs", shrunk.tries);
    });
    let Some(shrunk) = shrunk else {
        say("passed: there is nothing to shrink");
        return Ok(false);
    };
    let drawn = Options::draw(options.seed);
    let changes: Vec<String> = settings::differences(&drawn, &shrunk.options)
        .into_iter()
        .map(|change| format!(" --set {change}"))
        .collect();
    let bug = arguments.text("--bug")?.map_or(String::new(), |bug| format!(" --bug {bug}"));
    say(&format!("FAILED: {}", shrunk.failure));
    say(&format!("{} runs led to this story", shrunk.tries));
    if let Some(events) = shrunk.events {
        say(&format!("events: {events}"));
    }
    let reproduce = simtests::reproduce(options.ring, options.seed);
    say(&format!("reproduce: {reproduce}{bug}{}", changes.concat()));
    Ok(true)
}

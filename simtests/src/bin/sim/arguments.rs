//! The command line: a command, then options as `--name value` or `--name`. What is not known is refused.

use raftkv_sim::world::options::Ring;
use simtests::campaign;

/// The options behind the command.
#[derive(Debug)]
pub struct Arguments {
    options: Vec<(String, Option<String>)>,
}

impl Arguments {
    /// Reads options, each of which must be among `known`.
    pub fn read(words: &[String], known: &[&str]) -> Result<Self, String> {
        let mut options = Vec::new();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if !known.contains(&word.as_str()) {
                return Err(format!(
                    "{word} is not an option here; these are: {}",
                    known.join(" ")
                ));
            }
            let value = words.next_if(|next| !next.starts_with("--")).cloned();
            options.push((word.clone(), value));
        }
        Ok(Arguments { options })
    }

    /// Whether the option is there.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| option == name)
    }

    /// The option's text, if it is there.
    pub fn text(&self, name: &str) -> Result<Option<&str>, String> {
        match self.options.iter().find(|(option, _)| option == name) {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value)),
            Some((_, None)) => Err(format!("{name} wants a value")),
        }
    }

    /// The texts of an option that may be there more than once.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.options.iter().filter(move |(option, _)| option == name);
        named.filter_map(|(_, value)| value.as_deref())
    }

    /// The option's number, if it is there.
    pub fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |value: &str| {
            value.parse().map_err(|_| format!("{name} wants a number, not {value:?}"))
        };
        self.text(name)?.map(parse).transpose()
    }

    /// The option's number, which must be there.
    pub fn required(&self, name: &str) -> Result<u64, String> {
        self.number(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    /// What runs the nodes.
    pub fn ring(&self) -> Result<Ring, String> {
        match self.number("--ring")? {
            None | Some(0) => Ok(Ring::Models),
            Some(1) => Ok(Ring::Driver),
            Some(other) => Err(format!("there is no ring {other}, only 0 and 1")),
        }
    }

    /// How many threads to use.
    pub fn jobs(&self) -> Result<usize, String> {
        Ok(self.number("--jobs")?.map_or_else(campaign::all_processors, |jobs| jobs as usize))
    }
}

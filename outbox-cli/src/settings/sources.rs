//! Where settings are looked for: variables and the file.

use std::ffi::OsString;
use std::path::Path;

use clap::ValueEnum;

use super::value::{Database, Setting, Source};
use crate::args::{Property, Secret};
use crate::failure::Failure;
use crate::file::{File, read_bounded};

/// Variables of libpq that say where a database is.
const OF_LIBPQ: [&str; 3] = ["PGHOST", "PGHOSTADDR", "PGDATABASE"];

/// Where settings are looked for besides the options.
pub struct Sources<'a> {
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    pub file: Option<&'a File>,
}

impl Sources<'_> {
    /// A text, by its option, the name of its variable, and that of the common one.
    pub fn text(
        &self,
        option: Option<&str>,
        variable: &str,
        common: Option<&str>,
    ) -> Result<Option<Setting<String>>, Failure> {
        if let Some(value) = option {
            return Ok(Some(Setting { value: value.to_owned(), source: Source::Option }));
        }
        if let Some(found) = self.variable(variable)? {
            return Ok(Some(found));
        }
        if let Some(path) = self.variable(&format!("{variable}_FILE"))? {
            return Ok(Some(in_file(&path)?));
        }
        if let Some(found) = common.map(|common| self.variable(common)).transpose()?.flatten() {
            return Ok(Some(found));
        }
        Ok(self.in_the_file(variable))
    }

    fn in_the_file(&self, variable: &str) -> Option<Setting<String>> {
        let file = self.file?;
        let value = file.get(variable)?.to_owned();
        Some(Setting { value, source: Source::File(file.path.clone()) })
    }

    fn variable(&self, name: &str) -> Result<Option<Setting<String>>, Failure> {
        let Some(value) = (self.env)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let source = Source::Variable(name.to_owned());
        let value = value.into_string().map_err(|_| {
            Failure::configuration(format!("the variable {name} is not UTF-8: nothing was done"))
        })?;
        Ok(Some(Setting { value, source }))
    }

    pub fn parsed<T>(
        &self,
        option: Option<T>,
        variable: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Setting<T>>, Failure> {
        if let Some(value) = option {
            return Ok(Some(Setting { value, source: Source::Option }));
        }
        let Some(Setting { value, source }) = self.text(None, variable, None)? else {
            return Ok(None);
        };
        match parse(&value) {
            Ok(value) => Ok(Some(Setting { value, source })),
            Err(error) => Err(Failure::configuration(format!(
                "`{value}` is no value for {variable} ({source}): {error}. Nothing was done"
            ))),
        }
    }

    pub fn database(
        &self,
        option: Option<&Secret>,
        variable: &str,
    ) -> Result<Option<Setting<Database>>, Failure> {
        let url = |setting: Setting<String>| Setting {
            value: Database::Url(Secret(setting.value)),
            source: setting.source,
        };
        let option = option.map(|secret| &*secret.0);
        let found = self.text(option, variable, Some("DATABASE_URL"))?;
        let from_file = |found: &Setting<String>| matches!(&found.source, Source::File(path) if self.is_ours(path));
        if found.as_ref().is_some_and(|found| !from_file(found)) {
            return Ok(found.map(url));
        }
        // They count before the file.
        for name in OF_LIBPQ {
            if self.variable(name)?.is_some() {
                let source = Source::Variable(name.to_owned());
                return Ok(Some(Setting { value: Database::Libpq, source }));
            }
        }
        Ok(found.map(url))
    }

    fn is_ours(&self, path: &Path) -> bool {
        self.file.is_some_and(|file| file.path == path)
    }

    pub fn kafka(&self) -> Vec<Setting<Property>> {
        let Some(file) = self.file else { return Vec::new() };
        let source = Source::File(file.path.clone());
        let properties = file.kafka.iter().cloned();
        properties
            .map(|(name, value)| Setting {
                value: Property { name, value },
                source: source.clone(),
            })
            .collect()
    }
}

/// The value in a file that a variable names.
fn in_file(path: &Setting<String>) -> Result<Setting<String>, Failure> {
    let (file, source) = (Path::new(&path.value), path.source.clone());
    match read_bounded(file) {
        Ok(text) => Ok(Setting { value: text.trim_end_matches(['\r', '\n']).to_owned(), source }),
        Err(error) => Err(Failure::configuration(format!(
            "cannot read {}, which is named by {source}: {error}. Nothing was done",
            file.display()
        ))),
    }
}

pub fn one_of<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, true).map_err(|_| {
        let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

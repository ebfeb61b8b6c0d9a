//! The cases of `rename_all`, as serde has them.

const CASES: [&str; 8] = [
    "lowercase",
    "UPPERCASE",
    "PascalCase",
    "camelCase",
    "snake_case",
    "SCREAMING_SNAKE_CASE",
    "kebab-case",
    "SCREAMING-KEBAB-CASE",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Case(&'static str);

impl Case {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        CASES.into_iter().find(|case| *case == name).map(Self)
    }

    pub(crate) fn all() -> String {
        CASES.map(|case| format!("`{case}`")).join(", ")
    }

    /// The name of a variant in this case.
    pub(crate) fn of(self, variant: &str) -> String {
        match self.0 {
            "lowercase" => variant.to_ascii_lowercase(),
            "UPPERCASE" => variant.to_ascii_uppercase(),
            "camelCase" => {
                let mut chars = variant.chars();
                let first = chars.next().map(|first| first.to_ascii_lowercase());
                first.into_iter().chain(chars).collect()
            }
            "snake_case" => words(variant, '_'),
            "SCREAMING_SNAKE_CASE" => words(variant, '_').to_ascii_uppercase(),
            "kebab-case" => words(variant, '-'),
            "SCREAMING-KEBAB-CASE" => words(variant, '-').to_ascii_uppercase(),
            _ => variant.to_owned(),
        }
    }

    /// The name of a field in this case.
    pub(crate) fn of_field(self, field: &str) -> String {
        match self.0 {
            "UPPERCASE" | "SCREAMING_SNAKE_CASE" => field.to_ascii_uppercase(),
            "PascalCase" => joined(field),
            "camelCase" => Self("camelCase").of(&joined(field)),
            "kebab-case" => field.replace('_', "-"),
            "SCREAMING-KEBAB-CASE" => field.to_ascii_uppercase().replace('_', "-"),
            _ => field.to_owned(),
        }
    }
}

/// Each word of a field begins with a capital.
fn joined(field: &str) -> String {
    let words = field.split('_').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    words.collect()
}

/// As serde does it: each capital begins a word.
fn words(variant: &str, between: char) -> String {
    let mut text = String::new();
    for (i, c) in variant.char_indices() {
        if i > 0 && c.is_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text.replace('_', &between.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_those_of_serde() {
        let of = |case| Case::parse(case).unwrap().of("EuWest1");
        assert_eq!(of("lowercase"), "euwest1");
        assert_eq!(of("UPPERCASE"), "EUWEST1");
        assert_eq!(of("PascalCase"), "EuWest1");
        assert_eq!(of("camelCase"), "euWest1");
        assert_eq!(of("snake_case"), "eu_west1");
        assert_eq!(of("SCREAMING_SNAKE_CASE"), "EU_WEST1");
        assert_eq!(of("kebab-case"), "eu-west1");
        assert_eq!(of("SCREAMING-KEBAB-CASE"), "EU-WEST1");
        assert_eq!(Case::parse("Kebab"), None);
    }

    #[test]
    fn cases_of_fields_are_those_of_serde() {
        let of = |case| Case::parse(case).unwrap().of_field("unit_price");
        assert_eq!(of("lowercase"), "unit_price");
        assert_eq!(of("UPPERCASE"), "UNIT_PRICE");
        assert_eq!(of("PascalCase"), "UnitPrice");
        assert_eq!(of("camelCase"), "unitPrice");
        assert_eq!(of("snake_case"), "unit_price");
        assert_eq!(of("SCREAMING_SNAKE_CASE"), "UNIT_PRICE");
        assert_eq!(of("kebab-case"), "unit-price");
        assert_eq!(of("SCREAMING-KEBAB-CASE"), "UNIT-PRICE");
    }
}

//! Where a message is in its `.proto` file. Only what that takes is read of the language. The
//! whole file was parsed by the registry, and by the compiler of its author.

use std::iter::Peekable;
use std::str::CharIndices;

/// The indexes of a message, from the outermost in, by its full name.
pub(super) fn indexes(file: &str, message: &str) -> Result<Vec<u32>, String> {
    let wanted = message.strip_prefix('.').unwrap_or(message);
    let File { package, messages } = read(file)?;
    let prefix = if package.is_empty() { String::new() } else { format!("{package}.") };
    let found = messages.iter().find(|(name, _)| format!("{prefix}{name}") == wanted);
    found.map(|(_, indexes)| indexes.clone()).ok_or_else(|| {
        let names: Vec<_> = messages.iter().map(|(name, _)| format!("{prefix}{name}")).collect();
        format!("it has no message {wanted}, but {}", names.join(", "))
    })
}

#[derive(Default)]
struct File<'f> {
    package: &'f str,
    messages: Vec<(String, Vec<u32>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'f> {
    Word(&'f str),
    Sign(char),
}

/// A block that is open.
enum Block {
    Message {
        name: String,
        indexes: Vec<u32>,
        inside: u32,
    },
    /// An enum, a service, an option's value, …: no message is in it.
    Other,
}

fn read(file: &str) -> Result<File<'_>, String> {
    let tokens = tokens(file)?;
    let mut found = File::default();
    let mut open: Vec<Block> = Vec::new();
    let mut at_top = 0;
    let mut begins = true;
    for (at, token) in tokens.iter().enumerate() {
        let rest = &tokens[at + 1..];
        match (token, rest) {
            (Token::Word("package"), [Token::Word(name), ..]) if begins && open.is_empty() => {
                found.package = *name;
            }
            (Token::Word("message"), [Token::Word(name), Token::Sign('{'), ..]) if begins => {
                let (name, indexes) = match open.last_mut() {
                    None => ((*name).to_owned(), vec![take(&mut at_top)]),
                    Some(Block::Message { name: outer, indexes, inside }) => {
                        let indexes = indexes.iter().copied().chain([take(inside)]).collect();
                        (format!("{outer}.{name}"), indexes)
                    }
                    Some(Block::Other) => return Err(format!("message {name} is in no message")),
                };
                found.messages.push((name.clone(), indexes.clone()));
                open.push(Block::Message { name, indexes, inside: 0 });
            }
            // It is a message as well, and would be counted.
            (Token::Word("group"), [Token::Word(name), Token::Sign('='), ..]) => {
                return Err(format!("it has the group {name}, and groups are not supported"));
            }
            // That of a message is open already.
            (Token::Sign('{'), _) if !opens_message(&tokens[..at]) => open.push(Block::Other),
            (Token::Sign('}'), _) => {
                open.pop().ok_or("it has a } too many")?;
            }
            _ => {}
        }
        begins = is_begin(Some(*token));
    }
    if open.is_empty() { Ok(found) } else { Err("a { of it is not closed".to_owned()) }
}

/// Whether what is before a `{` is `message Name`.
fn opens_message(before: &[Token<'_>]) -> bool {
    match before {
        [.., begin, Token::Word("message"), Token::Word(_)] => is_begin(Some(*begin)),
        [Token::Word("message"), Token::Word(_)] => true,
        _ => false,
    }
}

/// Whether a statement begins after this token.
fn is_begin(before: Option<Token<'_>>) -> bool {
    matches!(before, None | Some(Token::Sign(';' | '{' | '}')))
}

fn take(counter: &mut u32) -> u32 {
    let index = *counter;
    *counter += 1;
    index
}

/// Words and signs, without comments. A string is the sign `"`.
fn tokens(file: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut chars = file.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        match c {
            '/' if next == Some('/') => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            '/' if next == Some('*') => skip_comment(&mut chars)?,
            '"' | '\'' => {
                skip_string(c, &mut chars)?;
                tokens.push(Token::Sign('"'));
            }
            _ if is_word(c) => {
                while chars.next_if(|(_, c)| is_word(*c)).is_some() {}
                let end = chars.peek().map_or(file.len(), |(end, _)| *end);
                tokens.push(Token::Word(&file[at..end]));
            }
            _ if c.is_whitespace() || c == '\u{feff}' => {}
            _ => tokens.push(Token::Sign(c)),
        }
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

fn skip_comment(chars: &mut Peekable<CharIndices<'_>>) -> Result<(), String> {
    chars.next();
    while let Some((_, c)) = chars.next() {
        if c == '*' && chars.next_if(|(_, c)| *c == '/').is_some() {
            return Ok(());
        }
    }
    Err("a comment of it is not closed".to_owned())
}

fn skip_string(quote: char, chars: &mut Peekable<CharIndices<'_>>) -> Result<(), String> {
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            _ if c == quote => return Ok(()),
            _ => {}
        }
    }
    Err("a string of it is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        // message Comment { }
        syntax = "proto3"; /* message Another { } */
        package shop.v1;
        import "google/protobuf/timestamp.proto";
        option java_package = "message Text {";
        option (custom) = { message: "x" nested { message { a: 1 } message: { } } };
        enum Kind { KIND_UNKNOWN = 0; }
        message First {
            string message = 1 [(note) = { text: "}" }];
            oneof what { string group_name = 2; Inner inner = 3; }
            message Inner { message Deep { } enum E { A = 0; } message Deeper { } }
            map<string, string> labels = 4;
            reserved "message";
            message Second {}
        }
        service Orders { rpc Place(First) returns (message.First) { option (a) = "b"; } }
        message Second { .shop.v1.First.Inner.Deep deep = 1; }
    "#;

    #[test]
    fn a_message_is_where_the_compiler_counts_it() {
        for (name, expected) in [
            ("First", &[0][..]),
            ("Second", &[1]),
            ("First.Inner", &[0, 0]),
            ("First.Second", &[0, 1]),
            ("First.Inner.Deep", &[0, 0, 0]),
            ("First.Inner.Deeper", &[0, 0, 1]),
        ] {
            assert_eq!(indexes(FILE, &format!("shop.v1.{name}")).unwrap(), expected, "{name}");
            assert_eq!(indexes(FILE, &format!(".shop.v1.{name}")).unwrap(), expected, "{name}");
        }
        assert_eq!(indexes("message A {} message B {}", "B").unwrap(), [1]);
    }

    #[test]
    fn what_is_not_there_is_an_error_that_says_what_is() {
        for name in ["First", "shop.v1.Comment", "shop.v1.Another", "shop.v1.Inner"] {
            let error = indexes(FILE, name).unwrap_err();
            assert!(error.ends_with("shop.v1.First.Second, shop.v1.Second"), "{error}");
        }
        for broken in [
            "message A {",
            "message A {}}",
            "/* ",
            "option a = \"",
            "enum A { message B {} }",
            "message A { optional group Result = 1 { } message B {} }",
        ] {
            assert!(indexes(broken, "A").is_err(), "{broken}");
        }
    }
}

//! Each rule on both sides: a change that it refuses, and the nearest one that it allows.

use outbox_contracts::{Lock, Mode, Rule, check, check_alone};

fn lock(event: &str) -> Lock {
    let text = format!("format = 1\n{event}");
    Lock::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// An event whose payload has these fields.
fn fields(fields: &str) -> Lock {
    event("", fields)
}

fn event(keys: &str, fields: &str) -> Lock {
    lock(&format!(
        "[[event]]\ntopic = 'orders'\nname = 'placed'\nversion = 1\n{}{keys}\n[event.fields]\n{fields}",
        if keys.contains("content-type") { "" } else { "content-type = 'application/json'\n" },
    ))
}

/// The fields, and those that were removed.
fn with_removed(kept: &str, removed: &str) -> Lock {
    fields(&format!("{kept}\n[event.removed]\n{removed}"))
}

#[track_caller]
fn refused(old: &Lock, new: &Lock, mode: Mode, rule: Rule, path: &str) {
    let found = check(old, new, Some(mode));
    let found: Vec<_> = found.iter().map(|violation| (violation.rule, &*violation.path)).collect();
    assert_eq!(found, [(rule, path)], "{mode}:\n{old}\n{new}");
}

#[track_caller]
fn allowed(old: &Lock, new: &Lock, mode: Mode) {
    let found = check(old, new, Some(mode));
    assert!(found.is_empty(), "{mode}: {found:#?}\n{old}\n{new}");
}

/// What nothing may change of an event, in whatever mode.
#[track_caller]
fn always_refused(old: &Lock, new: &Lock, rule: Rule) {
    for mode in Mode::ALL {
        refused(old, new, mode, rule, "");
    }
}

#[track_caller]
fn always_allowed(old: &Lock, new: &Lock) {
    for mode in Mode::ALL {
        allowed(old, new, mode);
    }
}

#[test]
fn an_event_is_deleted_only_once_it_is_retired() {
    let nothing = lock("");
    always_refused(&fields("a = 'u8'"), &nothing, Rule::EventNoDelete);
    always_allowed(&event("retired = true", "a = 'u8'"), &nothing);
    always_allowed(&nothing, &fields("a = 'u8'"));
}

#[test]
fn an_event_keeps_its_topic() {
    let before = fields("a = 'u8'");
    let moved =
        lock(&before.to_string().replace("format = 1", "").replace("\"orders\"", "\"sales\""));
    always_refused(&before, &moved, Rule::EventSameTopic);
    // Another version on another topic, beside the first one.
    let beside = moved.to_string().replace("format = 1", "").replace("version = 1", "version = 2");
    let both = lock(&(before.to_string().replace("format = 1", "") + &beside));
    always_allowed(&before, &both);
}

#[test]
fn an_event_keeps_its_key() {
    let keyed = |key| event(&format!("key = {key}"), "a = 'u8'\nb = 'u8'");
    for other in ["[]", "['b']", "['b', 'a']", "['a']"] {
        always_refused(&keyed("['a', 'b']"), &keyed(other), Rule::EventSameKey);
    }
    always_allowed(&keyed("['a', 'b']"), &keyed("['a', 'b']"));
}

#[test]
fn an_event_keeps_its_codec() {
    let of = |codec| event(&format!("content-type = '{codec}'"), "a = 'u8'");
    always_refused(&of("application/json"), &of("application/avro"), Rule::EventSameCodec);
    always_allowed(&of("application/avro"), &of("application/avro"));
}

#[test]
fn a_header_may_be_added_but_not_removed() {
    let one = event("headers = ['tenant']", "a = 'u8'");
    let two = event("headers = ['region', 'tenant']", "a = 'u8'");
    always_refused(&two, &one, Rule::HeaderNoDelete);
    always_allowed(&one, &two);
}

#[test]
fn a_field_that_readers_require_stays() {
    let (with, without) = (fields("a = 'u8'\nb = 'u8'"), with_removed("a = 'u8'", "b = 'u8'"));
    for mode in [Mode::Forward, Mode::ForwardTransitive, Mode::Full, Mode::FullTransitive] {
        refused(&with, &without, mode, Rule::FieldNoDelete, "b");
        allowed(&fields("a = 'u8'\nb = 'optional u8'"), &without, mode);
        // Nor may it be left out now and then.
        let sometimes = fields("a = 'u8'\nb = 'optional u8'");
        refused(&with, &sometimes, mode, Rule::FieldNoDelete, "b");
    }
    for mode in [Mode::Backward, Mode::BackwardTransitive] {
        allowed(&with, &without, mode);
    }
    // Whether a reader of an earlier state required it is not known.
    let defaulted = fields("a = 'u8'\nb = 'default u8'");
    refused(&defaulted, &without, Mode::FullTransitive, Rule::FieldNoDelete, "b");
    allowed(&defaulted, &without, Mode::Full);
}

#[test]
fn a_removed_field_is_remembered() {
    let optional = fields("a = 'u8'\nb = 'optional string'");
    let forgotten = fields("a = 'u8'");
    refused(&optional, &forgotten, Mode::FullTransitive, Rule::FieldNoDelete, "b");
    allowed(&optional, &forgotten, Mode::Full);
    // Its name is not free for something else, but for itself.
    let removed = with_removed("a = 'u8'", "b = 'string'");
    let other = fields("a = 'u8'\nb = 'optional u8'");
    refused(&removed, &other, Mode::FullTransitive, Rule::FieldSameType, "b");
    allowed(&removed, &other, Mode::Full);
    allowed(&removed, &optional, Mode::FullTransitive);
}

#[test]
fn a_field_keeps_its_type() {
    for (before, now) in [
        ("string", "u8"),
        ("u8", "i8"),
        ("string", "string(uuid)"),
        ("[u8]", "u8"),
        ("(u8, u8)", "(u8, u8, u8)"),
        ("[u8; 3]", "[u8; 4]"),
        ("map<u8>", "map<string>"),
        ("{ b: u8 }", "[u8]"),
        ("bytes", "[u8]"),
        ("u64", "f64"),
        ("enum(t) { x }", "enum(kind) { x }"),
        ("schema {\"not\":{}}", "schema {\"not\":{\"type\":\"null\"}}"),
    ] {
        let (before, now) = (fields(&format!("a = '{before}'")), fields(&format!("a = '{now}'")));
        for mode in [Mode::Full, Mode::FullTransitive] {
            let found = check(&before, &now, Some(mode));
            assert!(!found.is_empty(), "{before}{now}");
            assert!(found.iter().all(|found| found.rule == Rule::FieldSameType), "{found:?}");
            allowed(&before, &before, mode);
        }
    }
}

/// `new` as it is written down after `old`.
fn accepted(old: &Lock, new: &Lock) -> Lock {
    let mut lock = old.clone();
    for (name, contract) in &new.events {
        lock.accept(name, contract.clone());
    }
    lock
}

/// (narrow, wide): a new reader may take more, and a new writer may write less.
#[test]
fn a_type_may_become_wider_for_readers_and_narrower_for_writers() {
    for (narrow, wide) in [
        ("u8", "u16"),
        ("u8", "i16"),
        ("u32", "f64"),
        ("f32", "f64"),
        ("integer(1..=4294967295)", "u32"),
        ("string(uuid)", "string"),
        ("u8", "default u8?"),
        ("u8", "any"),
        ("u8", "u8 | string"),
        ("(u8, u8)", "[u8]"),
        ("[u8; 3]", "[u8]"),
        ("\"a\"", "string"),
        ("{ b: u8 }", "map<u8>"),
    ] {
        let (narrow, wide) = (fields(&format!("a = '{narrow}'")), fields(&format!("a = '{wide}'")));
        allowed(&narrow, &accepted(&narrow, &wide), Mode::BackwardTransitive);
        allowed(&wide, &accepted(&wide, &narrow), Mode::ForwardTransitive);
        for (before, now, mode) in
            [(&narrow, &wide, Mode::Forward), (&wide, &narrow, Mode::Backward)]
        {
            refused(before, now, mode, Rule::FieldSameType, "a");
        }
    }
}

#[test]
fn a_new_field_is_one_that_readers_can_do_without() {
    let before = fields("a = 'u8'");
    for mode in [Mode::Backward, Mode::BackwardTransitive, Mode::Full, Mode::FullTransitive] {
        refused(&before, &fields("a = 'u8'\nb = 'u8'"), mode, Rule::FieldNoNewRequired, "b");
        let null = fields("a = 'u8'\nb = 'required u8?'");
        refused(&before, &null, mode, Rule::FieldNoNewRequired, "b");
        for optional in ["u8?", "default u8", "optional u8", "optional u8?"] {
            allowed(&before, &fields(&format!("a = 'u8'\nb = '{optional}'")), mode);
        }
        // Nor may one become required that was not always there.
        let (sometimes, always) = (fields("a = 'optional u8'"), fields("a = 'u8'"));
        refused(&sometimes, &always, mode, Rule::FieldNoNewRequired, "a");
    }
    allowed(&before, &fields("a = 'u8'\nb = 'u8'"), Mode::ForwardTransitive);
    // Whether it was always there, in states before this one, is not known.
    let (defaulted, required) = (fields("a = 'default u8'"), fields("a = 'u8'"));
    refused(&defaulted, &required, Mode::FullTransitive, Rule::FieldNoNewRequired, "a");
    allowed(&defaulted, &required, Mode::Full);
}

#[test]
fn readers_that_refuse_unknown_fields_get_none() {
    let closed = |fields| event("closed = true", fields);
    let (one, two) = ("a = 'u8'", "a = 'u8'\nb = 'u8?'");
    refused(&closed(one), &closed(two), Mode::Full, Rule::FieldNoAdd, "b");
    allowed(&fields(one), &fields(two), Mode::Full);
    // Then old events with the field cannot be read either.
    refused(&closed(two), &closed(one), Mode::Backward, Rule::FieldNoDelete, "b");
    allowed(&fields(two), &fields(one), Mode::Backward);
}

/// In an enum without fields, in a union of either form, and in one that became a union.
#[test]
fn values_and_variants_stay_and_none_is_added() {
    for (fewer, more) in [
        (r#""x" | "y""#, r#""x" | "y" | "z""#),
        ("enum { x: u8, y }", "enum { x: u8, y, z }"),
        ("enum(t) { x: { b: u8 }, y }", "enum(t) { x: { b: u8 }, y, z: { c: u8 } }"),
        (r#""x" | "y""#, "enum { x, y, z: u8 }"),
    ] {
        let (fewer, more) = (fields(&format!("a = '{fewer}'")), fields(&format!("a = '{more}'")));
        allowed(&fewer, &more, Mode::BackwardTransitive);
        let fewer = accepted(&more, &fewer);
        allowed(&more, &fewer, Mode::ForwardTransitive);
        for mode in [Mode::Full, Mode::FullTransitive] {
            refused(&fewer, &more, mode, Rule::EnumValueNoAdd, "a");
            refused(&more, &fewer, mode, Rule::EnumValueNoDelete, "a");
        }
    }
}

#[test]
fn each_version_reads_those_before_it() {
    let versions = |second: &str| {
        let version = |number: u32, reads: &str| {
            format!(
                "[[event]]\ntopic = 'orders'\nname = 'placed'\nversion = {number}\ncontent-type = 'application/json'\n{reads}\n"
            )
        };
        lock(&(version(1, "") + &version(2, "reads = [1]") + &version(3, second)))
    };
    let found = check_alone(&versions("reads = [2]"));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule, found[0].event.version), (Rule::VersionHasUpcast, 3));
    assert_eq!(found[0].what, "it does not read version 1");
    assert_eq!(found[0].line, Some(19), "that of `reads`");
    assert_eq!(check_alone(&versions(""))[0].what, "it does not read versions 1 and 2");
    assert!(check_alone(&versions("reads = [1, 2]")).is_empty());
}

#[test]
fn a_field_is_named_by_its_path() {
    let before = fields("a = '[{ b: map<enum(t) { x: { c: u8 } }> }]'");
    let now = fields("a = '[{ b: map<enum(t) { x: { c: string } }> }]'");
    refused(&before, &now, Mode::Full, Rule::FieldSameType, "a[].b{}<x>.c");
    assert_eq!(check(&before, &now, None)[0].line, Some(9), "that of the field `a`");
}

#[test]
fn the_names_of_types_are_no_part_of_the_contract() {
    let of = |name: &str, text: &str| {
        let (list, table) = (format!("[{name}]"), format!("[event.types.{name}.fields]"));
        fields(&format!("a = '{list}'\n{table}\nsku = '{text}'\nnext = '{name}?'"))
    };
    always_allowed(&of("Item", "string"), &of("Line", "string"));
    always_allowed(
        &fields("a = '{ b: u8 }'"),
        &fields("a = 'B'\n[event.types.B.fields]\nb = 'u8'"),
    );
    refused(&of("Item", "string"), &of("Line", "u8"), Mode::Full, Rule::FieldSameType, "a[].sku");
}

#[test]
fn the_mode_that_was_agreed_on_counts() {
    let (before, now) = (fields("a = 'u8'"), event("mode = 'backward'", "a = 'u16'"));
    assert_eq!(check(&before, &now, None).len(), 1, "loosened in the same change");
    let before = event("mode = 'backward'", "a = 'u8'");
    assert!(check(&before, &now, None).is_empty());
    assert_eq!(check(&now, &before, None).len(), 1);
}

#[test]
fn what_was_known_of_a_payload_is_not_forgotten() {
    let unknown = lock(
        "[[event]]\ntopic='orders'\nname='placed'\nversion=1\ncontent-type='application/json'",
    );
    always_refused(&fields("a = 'u8'"), &unknown, Rule::FieldNoDelete);
    always_allowed(&unknown, &fields("a = 'u8'"));
}

#[test]
fn a_type_that_cannot_read_itself_is_no_change() {
    let unreadable = fields("a = 'unreadable u8'");
    always_allowed(&unreadable, &fields("a = 'unreadable u8'\nb = 'u8?'"));
}

//! What a reviewer is told of a change.

use outbox_contracts::{Lock, differences, worded};

const HEAD: &str =
    "[[event]]\ntopic = 'orders'\nname = 'placed'\ncontent-type = 'application/json'\n";

fn lock(events: &str) -> Lock {
    Lock::parse(&format!("format = 1\n{}", events.replace("EVENT\n", HEAD))).unwrap()
}

fn said(old: &str, new: &str) -> String {
    worded(&differences(&lock(old), &lock(new)), false)
}

#[test]
fn each_change_is_said_once_and_where_it_is() {
    let old = "EVENT\nversion = 1\n[event.fields]\na = '[Item]'\nb = 'u8'\ngone = '{ x: u8 }?'\n[event.types.Item.fields]\nsku = 'string'\n";
    let new = "EVENT\nversion = 1\nmode = 'backward'\nheaders = ['tenant']\n[event.fields]\na = '[Line]'\nb = 'default u16'\nnew = 'optional string'\n[event.types.Line.fields]\nsku = 'string'\ncount = 'u8?'\n[event.removed]\ngone = '{ x: u8 }?'\n";
    let said = said(old, new);
    let expected = "placed v1, on orders
  it has a new header `tenant`
  `gone` is removed: it was `{}?`
  `a[].count` is added: `u8?`
  `new` is added: `string`, which is not always written
  `b` is `u16`, which readers can do without; it was `u8`
  from now on its mode is `backward`; it was `full-transitive`
  BREAKS CONSUMERS FIELD_SAME_TYPE (`b`): ";
    assert!(said.starts_with(expected), "{said}");
    assert_eq!(said.matches("BREAKS").count(), 1, "{said}");
}

#[test]
fn a_type_that_has_another_name_is_no_change() {
    let of = |name: &str| {
        format!(
            "EVENT\nversion = 1\n[event.fields]\na = '{name}'\n[event.types.{name}.fields]\nnext = '{name}?'\n"
        )
    };
    assert_eq!(said(&of("Item"), &of("Line")), "");
}

#[test]
fn a_new_event_and_a_new_version_say_in_which_order_to_deploy() {
    let one = "EVENT\nversion = 1\n";
    assert!(said("", one).contains("it is a new event"), "{}", said("", one));
    let two = format!("{one}EVENT\nversion = 2\nreads = [1]\n");
    let of_two = said(one, &two);
    assert!(of_two.contains("deploy the consumers that take it before"), "{of_two}");
    let deaf = said(one, &two.replace("reads = [1]\n", ""));
    assert!(deaf.contains("do not read the older ones"), "{deaf}");
    assert!(deaf.contains("BREAKS CONSUMERS VERSION_HAS_UPCAST"), "{deaf}");
}

//! `if_mpadm`, compared with the texts of the reference, 7.1.

use super::*;

#[test]
fn if_mpadm_takes_members_out_and_puts_them_back_with_texts_of_reference() {
    lab::needs_root!();
    let lab = quiet_lab();
    let host = Host::new(&lab);
    host.daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
    host.daemon.ctl("attach e1000g0 e1000g1 --group production0").unwrap();
    for member in ["e1000g0", "e1000g1"] {
        host.wait_shown(&format!("show {member}"), "state ok");
    }
    let done = (0, String::new(), String::new());
    let fatal = |text: &str| (1, String::new(), format!("if_mpadm: fatal: {text}\n"));

    assert_eq!(host.result("if_mpadm -d e1000g0"), done);
    host.wait_shown("show e1000g0", "OFFLINE");
    assert_eq!(host.result("if_mpadm -d e1000g0"), fatal("interface e1000g0 is already offline"));
    assert_eq!(
        host.result("if_mpadm -d e1000g1"),
        fatal("cannot offline e1000g1: no other functioning interfaces are in its IPMP group")
    );
    assert_eq!(host.result("if_mpadm -r e1000g1"), fatal("interface e1000g1 is not offline"));
    assert_eq!(host.result("if_mpadm -r e1000g0"), done);
    host.wait_shown("show e1000g0", "state ok");
    assert_eq!(host.result("if_mpadm -r e1000g0"), fatal("interface e1000g0 is not offline"));

    assert_eq!(
        host.result("if_mpadm -d rge0"),
        fatal("cannot offline rge0: not a physical interface or not in an IPMP group")
    );
    assert_eq!(
        host.result("if_mpadm -d missing0"),
        fatal("cannot get interface flags on missing0: No such device")
    );
    let usage = (1, String::new(), "Usage: if_mpadm -d | -r <ifname>\n".to_owned());
    for line in ["if_mpadm", "if_mpadm -d", "if_mpadm e1000g0", "if_mpadm -x e1000g0"] {
        assert_eq!(host.result(line), usage, "{line}");
    }
    // The last option counts, and operands are ignored.
    assert_eq!(host.result("if_mpadm -r e1000g1 -d e1000g0 e1000g1"), done);
    host.wait_shown("show e1000g0", "OFFLINE");
    assert_eq!(host.result("if_mpadm -r e1000g0"), done);
}

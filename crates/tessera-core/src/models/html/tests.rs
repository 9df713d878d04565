//! HTML as people and programs write it, and as nobody should.

use super::*;
use proptest::prelude::*;

#[test]
fn a_reader_of_the_text_sees_what_a_reader_of_the_html_sees() {
    for (html, text) in [
        ("<p>Hello <b>Eve</b>,</p><p>it is ready &amp; paid.</p>", "Hello Eve,\n\nit is ready & paid."),
        (
            "<div class=\"signature\"><p>Herr M&uuml;ller hat re<b>fund</b></p><!-- inwardly --><style>p{color:crimson}</style></div>",
            "Herr Müller hat refund",
        ),
        ("line one<br>line two<br><br>end", "line one\nline two\n\nend"),
        ("<div>a</div><div><br></div><div>b<br></div><div>c</div>", "a\n\nb\nc"),
        ("  a \n  b\t<i> c</i> d&nbsp;e ", "a b c d e"),
        ("soft&shy;ly", "softly"),
        (
            "<ul><li>one<li>two<ul><li>inner</ul></ul><ol><li>first</li><li>second</li></ol>",
            "* one\n* two\n  * inner\n\n1. first\n2. second",
        ),
        (
            "<blockquote>He wrote:<blockquote>you</blockquote></blockquote>no",
            "> He wrote:\n> >\n> > you\n\nno",
        ),
        ("<pre>  a\n    b\n\nc</pre>", "  a\n    b\n\nc"),
        ("<table><tr><td>Name<td>Ann</tr><tr><td></td><td>x</td></tr></table>", "Name\tAnn\nx"),
        ("a<hr>b", "a\n-----\nb"),
        ("<h1>Title</h1>text", "Title\n\ntext"),
        ("<img src=x alt='a  cat'> sat", "a cat sat"),
        ("<img src='https://example.org/x.png'>", "[image]"),
        ("<p> </p>", ""),
        ("<script>if (a < b) x()</script><title>T</title>t", "t"),
        ("<style>never closed", ""),
        ("&lt;p&gt; &amp;amp; &#x1F980; &unknown; & <", "<p> &amp; 🦀 &unknown; & <"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("a\u{0}b", "ab"),
        ("<html><head><meta charset=utf-8><title>x</title></head><body>y</body></html>", "y"),
        ("<o:p>word</o:p><custom>tag</custom>", "wordtag"),
    ] {
        assert_eq!(to_text(html), text, "{html}");
    }
}

#[test]
fn the_address_of_a_link_stands_behind_its_text_in_one_piece() {
    let long = format!("https://desk.example.org/reset?token={}", "a1b2c3d4".repeat(100));
    for (html, text) in [
        (format!("<p>Please <a href=\"{long}\">open this</a>.</p>"), format!("Please open this <{long}>.")),
        (format!("<a href={long}>{long}</a>"), long.clone()),
        (format!("<a href={long}><img src=x></a>"), long.clone()),
        ("<a href='https://a.example/'>a.example</a>".into(), "a.example".into()),
        ("<a href='mailto:eve@example.net'>eve@example.net</a>".into(), "eve@example.net".into()),
        ("<a href='mailto:eve@example.net'>Eve</a>".into(), "Eve <mailto:eve@example.net>".into()),
        ("<a href='javascript:alert(1)'>x</a> <a href='#top'>y</a> <a>z</a>".into(), "x y z".into()),
        ("<a href='https://a.example/ b\n'>x".into(), "x <https://a.example/b>".into()),
        (
            "<a href=https://a.example/1>x<a href=https://a.example/2>y".into(),
            "x <https://a.example/1>y <https://a.example/2>".into(),
        ),
    ] {
        assert_eq!(to_text(&html), text, "{html}");
    }
}

#[test]
fn a_cleaned_message_looks_as_it_did_and_does_nothing() {
    for (html, cleaned) in [
        ("<p style=\"color:red; position:fixed\" onclick=x()>a</p>", "<p style=\"color:red\">a</p>"),
        ("<b>never closed", "<b>never closed</b>"),
        ("</div></div>a", "a"),
        ("<script>x</script><style>p{}</style><title>t</title>a", "a"),
        ("<form action=x><input name=y>a</form>", "a"),
        ("<a href='javascript:x'>a</a>", "<a rel=\"noopener noreferrer\">a</a>"),
        ("<iframe src=x></iframe><object data=x>o</object>a", "a"),
        ("1 < 2 & x", "1 &lt; 2 &amp; x"),
    ] {
        assert_eq!(clean(html).as_deref(), Some(cleaned), "{html}");
    }
}

#[test]
fn html_that_would_take_long_to_clean_is_left_as_text() {
    let hostile = [
        "<div>".repeat(DEPTH_MAX + 1),
        "<div></x>".repeat(DEPTH_MAX + 1),
        "<br>".repeat(TAGS_MAX + 1),
        (0..FORMATS_MAX + 1).map(|n| format!("<p><b id={n}></p>")).collect(),
        "<b><i><u><p>".repeat(100),
        "x".repeat(CLEANED_MAX + 1),
        "a<p ".to_owned() + &(0..CONTENT_MAX / 8).map(|n| format!("{n} ")).collect::<String>() + ">b",
        "a<p ".to_owned() + &(0..CONTENT_MAX / 12).map(|n| format!("a{n}=''")).collect::<String>() + ">b",
    ];
    for html in &hostile {
        assert_eq!(clean(html), None, "{}", html.get(..40).unwrap_or(html));
        assert!(to_text(html).len() <= CONTENT_MAX);
    }
    assert_eq!(to_text(&hostile[6]), "a\n[cut]");
    for html in [
        "<div>".repeat(DEPTH_MAX),
        "<p>x".repeat(5_000),
        "<ul><li>x<li>y</ul>".repeat(5_000),
        "<tr><td>x<td>y".repeat(6_000),
        // A picture in an attribute, with as many blanks as in a large drawing.
        format!("<img src='{}'>x", "1 2 ".repeat(5_000)),
    ] {
        assert!(clean(&html).is_some(), "{}", html.get(..40).unwrap_or(&html));
    }
}

#[test]
fn any_html_of_full_size_has_a_text_on_a_small_stack() {
    let whole = |unit: &str| unit.repeat(CONTENT_MAX / unit.len());
    let hostile = [
        whole("<div>"),
        whole("<blockquote>"),
        "<blockquote>".repeat(50) + &"<br>x".repeat(150_000),
        whole("<ul><li>"),
        whole("<table><tr><td>"),
        whole("<a href=https://a.example/>x"),
        whole("<b></i>"),
        whole("&amp;"),
        whole("<!--"),
        whole("<a href='"),
        whole("<script>"),
        "<pre>".to_owned() + &whole("\n"),
        "<p ".to_owned() + &whole("a "),
        "<p ".to_owned() + &whole("a=''"),
        whole(&format!("<p {}>", "a ".repeat(700))),
        whole("é"),
    ];
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    let tried = small.spawn(move || {
        for html in hostile {
            let text = to_text(&html);
            assert!(text.len() <= CONTENT_MAX, "{}", html.get(..40).unwrap_or(&html));
        }
    });
    tried.unwrap().join().unwrap();
    assert!(to_text(&("<blockquote>".repeat(50) + &"<br>x".repeat(150_000))).ends_with("\n[cut]"));
}

proptest! {
    #[test]
    fn a_text_survives_html_and_no_html_survives_as_tags(text in any::<String>(), tags in "(<(p|b|table|tr|td|li|ul|pre|/p|/td|img src=x|a href=y|style|!--)>|x|&lt;| ){0,60}") {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let plain: String = text.chars().filter(|c| !c.is_control() || *c == '\n').filter(|c| !matches!(c, '\u{ad}' | '\u{feff}')).collect();
        prop_assert_eq!(words(&to_text(&from_text(&plain))), words(&plain));
        to_text(&text);
        let cleaned = clean(&tags).unwrap_or_default();
        prop_assert!(!cleaned.contains("<style") && !cleaned.contains("<!--"));
    }
}

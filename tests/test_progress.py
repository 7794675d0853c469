import math

import numpy as np

from vcvae.progress import report_blocks


def test_report_blocks_gives_the_seconds_before_each_block():
    reports = []
    blocks = report_blocks(
        [np.zeros((2, 30)), np.zeros((2, 5))], 10, 3.4, lambda *report: reports.append(report), "reading"
    )
    assert reports == []
    assert next(blocks).shape == (2, 30)
    assert reports == [(0, 3, "reading, seconds")]
    assert [block.shape for block in blocks] == [(2, 5)]
    assert reports[1:] == [(3, 3, "reading, seconds")]


def test_report_blocks_knows_no_total_of_a_stream():
    reports = []
    list(report_blocks([np.zeros(30)] * 3, 10, math.inf, lambda *report: reports.append(report), "reading"))
    assert [report[:2] for report in reports] == [(0, None), (3, None), (6, None)]


def test_report_blocks_goes_on_where_there_is_more_than_a_header_says():
    reports = []
    list(report_blocks([np.zeros(30)] * 3, 10, 5.0, lambda *report: reports.append(report), "reading"))
    assert [report[:2] for report in reports] == [(0, 5), (3, 5), (6, None)]

// SPDX-License-Identifier: Apache-2.0
// A memory, a host and a clock around the accelerator, in plain Verilog.
//
// +memory=FILE   memory content, a beat a line, for $readmemh
// +host=FILE     what the host writes, in order: 32 bits of address, 32 bits of data a line
// +result=FILE   memory content after the run
// +limit=N       cycles after which the run has failed
//
// Prints "done STATUS ERROR_CODE CYCLES" when the interrupt came, or "timeout".
`timescale 1ns / 1ps

module accelerator_tb;
    parameter BITS = 64;        // of a beat
    parameter BEATS = 4096;     // of memory
    parameter WRITES = 16;      // of the host
    parameter STATUS = 12'h00c, ERROR_CODE = 12'h010;
    localparam BYTES = BITS / 8;

    reg clk = 0, rst = 1;
    always #5 clk = ~clk;

    reg [BITS-1:0] memory [0:BEATS-1];
    reg [63:0] host [0:WRITES-1];

    // memory: one read and one write burst at a time
    wire [31:0] araddr, awaddr;
    wire [7:0] arlen, awlen;
    wire [BITS-1:0] wdata;
    wire [BYTES-1:0] wstrb;
    wire arvalid, rready, awvalid, wvalid, wlast, bready, irq;
    reg reading = 0, writing = 0, bvalid = 0;
    reg [31:0] read_beat, write_beat;
    reg [8:0] read_left;
    wire wready = writing && !bvalid;
    integer lane;

    always @(posedge clk) begin
        if (!reading && arvalid) begin
            reading <= 1;
            read_beat <= araddr / BYTES;
            read_left <= arlen + 1;
        end else if (reading && rready) begin
            read_beat <= read_beat + 1;
            read_left <= read_left - 1;
            if (read_left == 1) reading <= 0;
        end
        if (!writing && awvalid) begin
            writing <= 1;
            write_beat <= awaddr / BYTES;
        end
        if (wready && wvalid) begin
            for (lane = 0; lane < BYTES; lane = lane + 1)
                if (wstrb[lane]) memory[write_beat][8*lane +: 8] <= wdata[8*lane +: 8];
            write_beat <= write_beat + 1;
            if (wlast) bvalid <= 1;
        end
        if (bvalid && bready) begin
            bvalid <= 0;
            writing <= 0;
        end
    end

    // host
    reg [11:0] s_addr = 0;
    reg [31:0] s_wdata = 0;
    reg s_awvalid = 0, s_wvalid = 0, s_arvalid = 0, s_bready = 0, s_rready = 0;
    wire s_awready, s_wready, s_arready, s_bvalid, s_rvalid;
    wire [31:0] s_rdata;

    addend dut (
        .clk(clk), .rst(rst), .irq(irq),
        .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arvalid(arvalid),
        .m_axi_arready(!reading), .m_axi_arid(), .m_axi_arsize(), .m_axi_arburst(),
        .m_axi_arlock(), .m_axi_arcache(), .m_axi_arprot(),
        .m_axi_rvalid(reading), .m_axi_rready(rready), .m_axi_rid(1'b0),
        .m_axi_rdata(memory[read_beat]), .m_axi_rresp(2'b00), .m_axi_rlast(read_left == 1),
        .m_axi_awaddr(awaddr), .m_axi_awlen(awlen), .m_axi_awvalid(awvalid),
        .m_axi_awready(!writing), .m_axi_awid(), .m_axi_awsize(), .m_axi_awburst(),
        .m_axi_awlock(), .m_axi_awcache(), .m_axi_awprot(),
        .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid),
        .m_axi_wready(wready), .m_axi_bvalid(bvalid), .m_axi_bready(bready), .m_axi_bid(1'b0),
        .m_axi_bresp(2'b00),
        .s_axil_awaddr(s_addr), .s_axil_awprot(3'b000), .s_axil_awvalid(s_awvalid),
        .s_axil_awready(s_awready), .s_axil_wdata(s_wdata), .s_axil_wstrb(4'hf),
        .s_axil_wvalid(s_wvalid), .s_axil_wready(s_wready), .s_axil_bresp(),
        .s_axil_bvalid(s_bvalid), .s_axil_bready(s_bready), .s_axil_araddr(s_addr),
        .s_axil_arprot(3'b000), .s_axil_arvalid(s_arvalid), .s_axil_arready(s_arready),
        .s_axil_rdata(s_rdata), .s_axil_rresp(), .s_axil_rvalid(s_rvalid),
        .s_axil_rready(s_rready));

    task write(input [31:0] address, input [31:0] value);
        begin
            s_addr <= address[11:0]; s_wdata <= value; s_awvalid <= 1; s_wvalid <= 1;
            @(posedge clk); while (!(s_awready && s_wready)) @(posedge clk);
            s_awvalid <= 0; s_wvalid <= 0; s_bready <= 1;
            @(posedge clk); while (!s_bvalid) @(posedge clk);
            s_bready <= 0;
            @(posedge clk);
        end
    endtask

    task read(input [11:0] address, output [31:0] value);
        begin
            s_addr <= address; s_arvalid <= 1;
            @(posedge clk); while (!s_arready) @(posedge clk);
            s_arvalid <= 0; s_rready <= 1;
            @(posedge clk); while (!s_rvalid) @(posedge clk);
            value = s_rdata; s_rready <= 0;
            @(posedge clk);
        end
    endtask

    reg [8*256-1:0] file;
    reg [31:0] status, code;
    integer number, cycle, limit;

    initial begin
        if (!$value$plusargs("memory=%s", file)) $finish;
        $readmemh(file, memory);
        if (!$value$plusargs("host=%s", file)) $finish;
        $readmemh(file, host);
        if (!$value$plusargs("limit=%d", limit)) $finish;
        repeat (4) @(posedge clk);
        rst <= 0;
        @(posedge clk);
        for (number = 0; number < WRITES; number = number + 1)
            write(host[number][63:32], host[number][31:0]);
        cycle = 0;
        while (irq !== 1'b1 && cycle < limit) begin
            @(posedge clk);
            cycle = cycle + 1;
        end
        if (cycle == limit) $display("timeout");
        else begin
            read(STATUS, status);
            read(ERROR_CODE, code);
            $display("done %0d %0d %0d", status, code, cycle);
        end
        if ($value$plusargs("result=%s", file)) $writememh(file, memory);
        $finish;
    end
endmodule
